// SPDX-License-Identifier: GPL-3.0-or-later
// Which layers, or which of their two parts, are left out of the plan (pruning_sharing_attribution.md, D1).
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/plan/plan.h"
#include "engine/weights/residuals.h"

namespace winnow {

struct LayerDrop {
  std::string method;  // "" = every layer stays
  int count = 0;       // layers, or parts of layers; where layers are merged at most so many
  int protect = 0;     // layers at either end that stay
  int together = 1;    // layers that are merged into one at a time
  double similarity = 0;  // of the last hidden states, that a merge has to leave
};

// A layer's part in a sum of layers.
struct LayerShare {
  int layer = 0;
  float weight = 0;
  bool operator==(const LayerShare&) const = default;
};
// What is left of the layers, and which of them are sums.
struct LayersLeft {
  std::vector<LayerParts> parts;              // [layers]
  std::vector<std::vector<LayerShare>> sums;  // [layers], empty where a layer keeps its weights
};

struct LayerDropMethod {
  std::string name, title, paper;
  // The parts that stay. Candidates are layers [first, last), at least count of them. Null where layers are merged.
  std::vector<LayerParts> (*choose)(const ResidualCosines& measured, int first, int last, int count);
  // The shares of a layer and of the `merged` ones after it in what they become (engine/prune/laco.h), [1 + merged]. Null where layers are dropped.
  std::vector<float> (*merge)(int merged) = nullptr;
};
std::span<const LayerDropMethod> layerDropMethods();
const LayerDropMethod* findLayerDropMethod(std::string_view name);

bool mergesLayers(std::string_view method);
std::string layerDropKey(const LayerDrop& drop);  // its identity

// Layers at either end that stay; -1 is min(2, layers / 4).
int protectedLayers(int64_t wanted, int layers);
// For every layer of the model, where layers are dropped. Deterministic: of equals the later ones go.
std::vector<LayerParts> partsLeft(const LayerDrop& drop, const ResidualCosines& measured);

}  // namespace winnow
