// SPDX-License-Identifier: GPL-3.0-or-later
// Pruning by explaining (Hatefi et al. 2024; pruning_sharing_attribution.md, D7): a group of heads is worth the magnitude of the relevance that
// its heads pass on, summed over the calibration text (head_relevance.h). A head without output has none.
#include <cmath>

#include "engine/core/check.h"
#include "engine/prune/head_methods.h"

namespace winnow {

std::vector<double> lrpHeadScores(const HeadInput& input) {
  CHECK(static_cast<int>(input.relevance.size()) == input.heads, input.relevance.size(), input.heads);
  std::vector<double> out(static_cast<size_t>(input.kvHeads));
  for (int head = 0; head < input.heads; ++head) out[static_cast<size_t>(head / input.groupSize())] += input.relevance[static_cast<size_t>(head)];
  for (double& score : out) score = std::fabs(score);
  return out;
}

}  // namespace winnow
