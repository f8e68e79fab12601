// SPDX-License-Identifier: GPL-3.0-or-later
// One factor per row (pruning_sharing_attribution.md, J2; without the constant where C are the moments about zero): a row w that was w0 is
// multiplied by 1 + w C (w0 - w)^T / (w (C + damping mean(diag C) I) w^T). Two sums a row: the cheapest recovery there is.
#include "engine/core/check.h"
#include "engine/recover/methods.h"

namespace winnow {
namespace {

class Scale final : public Recovery {
 public:
  explicit Scale(const RecoveryInput& input) : moments_(*input.statistics.moments), prior_(input.damping * moments_.meanDiagonal()) {
    CHECK(moments_.cols() == input.cols, moments_.cols(), input.cols);
  }

  void apply(const float* dense, float* pruned, int count) const override {
    const auto cols = static_cast<size_t>(moments_.cols());
    std::vector<double> row(cols), product(cols);
    for (int r = 0; r < count; ++r, dense += cols, pruned += cols) {
      row.assign(pruned, pruned + cols);
      moments_.times(row.data(), product.data());
      double lost = 0, size = 0;
      for (size_t c = 0; c < cols; ++c) {
        lost += product[c] * (static_cast<double>(dense[c]) - row[c]);
        size += (product[c] + prior_ * row[c]) * row[c];
      }
      if (!(size > 0)) continue;  // an empty row, or inputs that were never active
      const double factor = 1 + lost / size;
      for (size_t c = 0; c < cols; ++c) pruned[c] = static_cast<float>(factor * row[c]);
    }
  }

 private:
  const SecondMoments& moments_;
  double prior_;
};

}  // namespace

std::unique_ptr<Recovery> prepareScaleRecovery(const RecoveryInput& input) { return std::make_unique<Scale>(input); }

}  // namespace winnow
