// SPDX-License-Identifier: GPL-3.0-or-later
// Wanda (Sun et al., ICLR 2024): importance |w_ij| * ||X_j||_2, compared within each output row; the floor(ratio * cols)
// least important of every row become zero. No weight update. Ties by column. One-shot statistics of the dense model.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/core/check.h"
#include "engine/prune/methods.h"

namespace winnow {
namespace {

class WandaPruner final : public Pruner {
 public:
  explicit WandaPruner(const PruneInput& input)
      : norms_(input.statistics.columnNorms.begin(), input.statistics.columnNorms.end()),
        perRow_(static_cast<int>(std::floor(input.ratio * input.cols))) {
    CHECK(static_cast<int>(norms_.size()) == input.cols, norms_.size(), input.cols);
  }

  void apply(float* rows, int, int count) const override {
    if (perRow_ <= 0) return;
    const int cols = static_cast<int>(norms_.size());
    std::vector<std::pair<float, int>> score(norms_.size());
    for (int r = 0; r < count; ++r) {
      float* row = rows + static_cast<int64_t>(r) * cols;
      for (int c = 0; c < cols; ++c) score[static_cast<size_t>(c)] = {std::fabs(row[c]) * norms_[static_cast<size_t>(c)], c};
      std::nth_element(score.begin(), score.begin() + perRow_ - 1, score.end());
      for (int i = 0; i < perRow_; ++i) row[score[static_cast<size_t>(i)].second] = 0.0f;
    }
  }

 private:
  std::vector<float> norms_;  // [cols]
  int perRow_;
};

}  // namespace

std::unique_ptr<Pruner> prepareWanda(const PruneInput& input) { return std::make_unique<WandaPruner>(input); }

}  // namespace winnow
