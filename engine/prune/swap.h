// SPDX-License-Identifier: GPL-3.0-or-later
// Which pruned and kept weights change places (Su et al. 2024, section 3; pruning_sharing_attribution.md, C4 and L6).
#pragma once
#include <cstddef>
#include <span>

namespace winnow {

// With r the length over which the pruned, by falling metric, lie above the kept, by rising metric, the index is floor(share * r): pruned weights
// above `grow` come back, kept ones below `prune` go. At index 0 nothing does.
struct SwapThresholds {
  size_t index = 0;
  float grow = 0, prune = 0;
};
SwapThresholds swapThresholds(std::span<const float> pruned /* falling */, std::span<const float> kept /* rising */, double share);

}  // namespace winnow
