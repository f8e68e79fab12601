// SPDX-License-Identifier: GPL-3.0-or-later
// Wanda (Sun et al., ICLR 2024): importance |w_ij| * ||X_j||_2, compared within each output row. No weight update. One-shot statistics
// of the dense model.
#include "engine/core/check.h"
#include "engine/core/memory.h"
#include "engine/prune/methods.h"
#include "engine/prune/thresholds.h"

namespace winnow {

std::unique_ptr<PruneScores> prepareWanda(const PruneInput& input, Ledger& ledger) {
  CHECK(ledger.planning() || static_cast<int>(input.statistics.columnNorms.size()) == input.cols, input.statistics.columnNorms.size(), input.cols);
  return prepareThresholds(input, {input.statistics.columnNorms.begin(), input.statistics.columnNorms.end()}, ledger);
}

}  // namespace winnow
