// SPDX-License-Identifier: GPL-3.0-or-later
// The weights a row kept, fitted anew by ADMM (Boža 2024; pruning_sharing_attribution.md, J4): the exact solution needs a factorization per
// row, these steps share one for all rows of all matrices that read an input. For what is added to the weights, with P the inverse of
// C + (damping + penalty) mean(diag C) I, r = C (w0 - w)^T and rho the penalty: d = (r + rho (z - u)) P, z = d + u where weights stay and
// 0 elsewhere, u += d - z; z after the last step is added. A row that it would make worse keeps what pruning left.
#include <algorithm>

#include "engine/core/check.h"
#include "engine/recover/methods.h"
#include "engine/weights/dense_square.h"

namespace winnow {
namespace {

constexpr int kRows = 16;

class Admm final : public Recovery {
 public:
  explicit Admm(const RecoveryInput& input) :
        moments_(*input.statistics.moments), inverse_(DenseSquare::ofInverse(*input.statistics.factor, moments_, input.pool)), cols_(input.cols),
        stride_(inverse_.stride()), steps_(input.steps), penalty_(static_cast<float>(input.statistics.factor->damping() - input.damping)), mean_(moments_.meanDiagonal()) {
    CHECK(moments_.cols() == cols_ && penalty_ > 0, moments_.cols(), cols_, penalty_);
  }

  void apply(const float* dense, float* pruned, int count) const override {
    for (int r = 0; r < count; r += kRows) fit(dense + int64_t{r} * cols_, pruned + int64_t{r} * cols_, std::min(kRows, count - r));
  }

 private:
  void fit(const float* dense, float* pruned, int count) const {
    const size_t values = static_cast<size_t>(count) * static_cast<size_t>(stride_);
    std::vector<std::vector<double>> lost;
    std::vector<float> start(values), right(values), d(values), z(values), u(values), stays(values);
    for (int r = 0; r < count; ++r) {
      lost.push_back(lostMoments(moments_, dense + int64_t{r} * cols_, pruned + int64_t{r} * cols_));
      for (int c = 0; c < cols_; ++c) {
        start[at(r, c)] = static_cast<float>(lost.back()[static_cast<size_t>(c)] / mean_);
        stays[at(r, c)] = pruned[int64_t{r} * cols_ + c] != 0.0f ? 1.0f : 0.0f;
      }
    }
    for (int step = 0; step < steps_; ++step) {
      for (size_t i = 0; i < values; ++i) right[i] = start[i] + penalty_ * (z[i] - u[i]);
      inverse_.times(right.data(), count, d.data());
      for (size_t i = 0; i < values; ++i) {
        z[i] = stays[i] * (d[i] + u[i]);
        u[i] += d[i] - z[i];
      }
    }
    for (int r = 0; r < count; ++r)
      if (lessLost(z.data() + int64_t{r} * stride_, lost[static_cast<size_t>(r)]))
        for (int c = 0; c < cols_; ++c) pruned[int64_t{r} * cols_ + c] += z[at(r, c)];
  }
  size_t at(int r, int c) const { return static_cast<size_t>(r) * static_cast<size_t>(stride_) + static_cast<size_t>(c); }

  // z C z^T < 2 r z^T.
  bool lessLost(const float* z, const std::vector<double>& lost) const {
    std::vector<double> row(z, z + cols_), product(row.size());
    moments_.times(row.data(), product.data());
    double change = 0;
    for (size_t c = 0; c < row.size(); ++c) change += (product[c] - 2 * lost[c]) * row[c];
    return change < 0;
  }

  const SecondMoments& moments_;
  const DenseSquare inverse_;  // P, of moments whose mean diagonal is one: rho is the penalty
  const int cols_, stride_, steps_;
  const float penalty_;
  const double mean_;
};

}  // namespace

std::unique_ptr<Recovery> prepareAdmmRecovery(const RecoveryInput& input) { return std::make_unique<Admm>(input); }

}  // namespace winnow
