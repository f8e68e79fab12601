// SPDX-License-Identifier: GPL-3.0-or-later
// Minitron (Muralidharan et al., NeurIPS 2024; pruning_sharing_attribution.md, D4), its axis of neurons: a channel is worth the mean magnitude of
// what down reads of it over each text, and the L2 norm of that over the texts, which here are the windows of the calibration text. The paper
// prunes to a shape, so every layer keeps as many. Its axis of depth, by the influence of layers, is prune.layers.
#include "engine/core/check.h"
#include "engine/prune/width_methods.h"

namespace winnow {

std::vector<double> minitronScores(const WidthInput& input) {
  CHECK(static_cast<int>(input.windowMagnitudes.size()) == input.ffn, input.windowMagnitudes.size(), input.ffn);
  return {input.windowMagnitudes.begin(), input.windowMagnitudes.end()};
}

}  // namespace winnow
