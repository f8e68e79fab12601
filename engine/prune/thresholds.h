// SPDX-License-Identifier: GPL-3.0-or-later
// Pruning by a score |w_ij| * factor_j: the floor(ratio * n) smallest of each row, or of the matrix, become zero, exactly. Ties go by
// position. What is kept are thresholds and how many weights lie below them: 128 bytes for a row, or 128 KiB for a matrix. A ratio falls
// between two of them, and only the few weights there are put in order. Grouped patterns compare within their groups.
#pragma once
#include <vector>

#include "engine/prune/method.h"

namespace winnow {

// By input.scope. `factors` is [cols], and may be empty under a planning ledger.
std::unique_ptr<PruneScores> prepareThresholds(const PruneInput& input, std::vector<float> factors, Ledger& ledger);

// The positions of a group of scores that a pattern zeroes: calls zero(c) for the zeros * count / of smallest of count scores, ties by position.
template <class Zero>
void zeroOfGroup(const float* scores, int count, const PrunePattern& pattern, Zero&& zero) {
  const int quota = pattern.zeros * count / pattern.of;
  for (int c = 0; c < count; ++c) {
    int rank = 0;
    for (int d = 0; d < count; ++d) rank += d < c ? scores[d] <= scores[c] : scores[d] < scores[c];
    if (rank < quota) zero(c);
  }
}

}  // namespace winnow
