// SPDX-License-Identifier: GPL-3.0-or-later
// LaCo (Yang et al., EMNLP Findings 2024 (arXiv 2402.11187), section 3; pruning_sharing_attribution.md, D1): from the top down, layers are merged
// into the one before them,
//   theta_l + sum over k of (theta_(l+k) - theta_l),
// and dropped, as long as the model's last hidden states stay alike.
#pragma once
#include <functional>
#include <vector>

#include "engine/core/result.h"
#include "engine/prune/layer_drop.h"

namespace winnow {

// Of layer l and of the `merged` ones after it in the sum above, [1 + merged].
std::vector<float> lacoShares(int merged);
// The released program subtracts the running sum, which leaves the last layer's weights alone.
std::vector<float> releasedLacoShares(int merged);

// What is left of so many layers. `similarity` tells how alike the last hidden states of what a merge would leave and of the whole model are: at
// or below drop.similarity another merge, one layer further down, is tried. Neither the protected layers nor what merges into them change.
// Errors: those of `similarity`.
Result<LayersLeft> mergeLayers(const LayerDrop& drop, int layers, const std::function<Result<double>(const LayersLeft&)>& similarity);

}  // namespace winnow
