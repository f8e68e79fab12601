// SPDX-License-Identifier: GPL-3.0-or-later
// Which channels of the feed-forwards are left out: rows of gate and up, columns of down (pruning_sharing_attribution.md, D2 to D4). What is left
// is as dense as before, so memory and time fall by as much. One method is one file and one line in width.cpp.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/plan/plan.h"
#include "engine/weights/kept_channels.h"
#include "engine/weights/method_input.h"
#include "engine/weights/residuals.h"

namespace winnow {

// One feed-forward, as the methods see it.
struct WidthInput {
  int layer = 0, hidden = 0, ffn = 0;
  MethodInput statistics;                  // of what down reads, as the method asked for
  std::span<const float> windowMagnitudes;  // [ffn], of the same (Calibration::windowMagnitudes); empty where nothing is asked for
  // Rows of the matrices as f32, out [count, cols]; gate is empty where there is none. Thread-safe.
  using Decode = std::function<void(int row, int count, float* out)>;
  Decode gate, up, down;
  ThreadPool* pool = nullptr;
};

struct WidthMethod {
  std::string name, title, paper;
  InputNeeds needs;
  std::vector<double> (*score)(const WidthInput& input);  // [ffn]: those with the highest stay
  // The share of its channels that each layer keeps, `kept` on average; null: all layers keep as many.
  std::vector<double> (*shares)(std::span<const LayerInfluence> layers, double kept) = nullptr;
  bool refits = false;  // down is fitted by least squares whatever prune.recovery says: it is part of the method
};
std::span<const WidthMethod> widthMethods();
const WidthMethod* findWidthMethod(std::string_view name);

struct WidthChoice {
  std::string method;    // "" = all channels stay
  double removed = 0;    // share of the channels, above 0
  std::string recovery;  // of down, whose columns go; "" = none
  double damping = 0;    // of the second moments, where something factors them
};
std::string widthKey(const WidthChoice& choice);

// Widths are multiples of so many channels: of 128, or of a power of two that is a sixteenth of them at most, of 8 at least.
int widthStep(int ffn);
// Whether anything can be left out: a feed-forward of two steps at least.
bool narrows(int ffn);

// How many channels each layer keeps, [layers]; 0 where it has no feed-forward. `influences` is empty where nothing was measured: the sum is
// the same, dealt evenly. Every layer keeps one step at least, and all of them together a step less than everything.
std::vector<int> widthsLeft(const WidthChoice& choice, int ffn, const std::vector<LayerParts>& parts, std::span<const LayerInfluence> influences);

// The `count` with the highest scores; of equals the first stay.
Channels bestChannels(std::span<const double> scores, int count);

}  // namespace winnow
