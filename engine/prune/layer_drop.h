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
  int count = 0;       // layers, or parts of layers
  int protect = 0;     // layers at either end that stay
};

struct LayerDropMethod {
  std::string name, title, paper;
  // The parts that stay. Candidates are layers [first, last), at least count of them.
  std::vector<LayerParts> (*choose)(const ResidualCosines& measured, int first, int last, int count);
};
std::span<const LayerDropMethod> layerDropMethods();
const LayerDropMethod* findLayerDropMethod(std::string_view name);

// Layers at either end that stay; -1 is min(2, layers / 4).
int protectedLayers(int64_t wanted, int layers);
// For every layer of the model. Deterministic: of equals the later ones go.
std::vector<LayerParts> partsLeft(const LayerDrop& drop, const ResidualCosines& measured);

}  // namespace winnow
