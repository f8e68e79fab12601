// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/mask_scores.h"

#include <algorithm>

namespace winnow {

// One after the other: through one forward, as parts of the whole context, 32 random masks over 42 sentences took as long (3 % more tokens),
// and orders that grow source by source 1.4 times as long (65 % more).
Status MaskScores::evaluate(std::vector<Mask> masks) {
  std::ranges::sort(masks);
  for (const Mask& mask : masks) {
    if (scores_.contains(mask)) continue;
    const auto scored = task_.score(task_.target, mask,
                                    "context " + std::to_string(scores_.size() + 1) + " of " + std::to_string(task_.forwardsExpected));
    if (!scored) return scored.error();
    scores_.emplace(mask, scored->logProbs);
  }
  return Done{};
}

Mask maskOf(uint64_t bits, size_t sources) {
  Mask mask(sources);
  for (size_t i = 0; i < sources; ++i) mask[i] = (bits >> i & 1) != 0;
  return mask;
}

}  // namespace winnow
