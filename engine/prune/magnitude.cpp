// SPDX-License-Identifier: GPL-3.0-or-later
// Magnitude pruning: importance |w_ij|, compared within the whole matrix. The baseline that uses no data.
#include "engine/prune/methods.h"
#include "engine/prune/thresholds.h"

namespace winnow {

std::unique_ptr<PruneScores> prepareMagnitude(const PruneInput& input, Ledger& ledger) {
  return prepareThresholds(input, std::vector<float>(static_cast<size_t>(input.cols), 1.0f), ledger);
}

}  // namespace winnow
