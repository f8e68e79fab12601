// SPDX-License-Identifier: GPL-3.0-or-later
// Minitron (Muralidharan et al., NeurIPS 2024; pruning_sharing_attribution.md, D4), its axis of heads: a head is worth the L2 norm of its output over
// the tokens of the calibration text, a group the sum of its heads.
#include <cmath>

#include "engine/core/check.h"
#include "engine/prune/head_methods.h"

namespace winnow {

std::vector<double> minitronHeadScores(const HeadInput& input) {
  CHECK(static_cast<int>(input.outputNorms.size()) == input.heads * input.headDim, input.outputNorms.size(), input.heads, input.headDim);
  std::vector<double> out(static_cast<size_t>(input.kvHeads));
  for (int head = 0; head < input.heads; ++head) {
    double squares = 0;
    for (int c = 0; c < input.headDim; ++c) {
      const double norm = input.outputNorms[static_cast<size_t>(head * input.headDim + c)];
      squares += norm * norm;
    }
    out[static_cast<size_t>(head / input.groupSize())] += std::sqrt(squares);
  }
  return out;
}

}  // namespace winnow
