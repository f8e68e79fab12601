// SPDX-License-Identifier: GPL-3.0-or-later
// The weights a row kept, fitted anew by ADMM (Boža 2024; pruning_sharing_attribution.md, J4): the exact solution needs a factorization per
// row, these steps share one for all rows of all matrices that read an input. For what is added to the weights, with P the inverse of
// C + (damping + penalty) mean(diag C) I, r = C (w0 - w)^T and rho the penalty: d = (r + rho (z - u)) P, z = d + u where weights stay and
// 0 elsewhere, u += d - z; z after the last step is added. A row that it would make worse keeps what pruning left.
#include <algorithm>
#include <atomic>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/recover/methods.h"

namespace winnow {
namespace {

constexpr int kRows = 16;

class Admm final : public Recovery {
 public:
  explicit Admm(const RecoveryInput& input) :
        moments_(*input.statistics.moments), cols_(input.cols), stride_((input.cols + 15) / 16 * 16), steps_(input.steps) {
    const InverseFactor& factor = *input.statistics.factor;
    CHECK(moments_.cols() == cols_ && factor.cols() == cols_ && factor.order().empty(), moments_.cols(), factor.cols(), cols_);
    penalty_ = static_cast<float>(factor.damping() - input.damping);
    CHECK(penalty_ > 0, factor.damping(), input.damping);
    mean_ = moments_.meanDiagonal();
    inverse_.resize(static_cast<size_t>(cols_) * static_cast<size_t>(stride_));
    std::vector<float> upper(inverse_.size());
    for (int i = 0; i < cols_; ++i) std::copy_n(factor.row(i), cols_, upper.data() + int64_t{i} * stride_);
    // Factors are of moments times 2 / tokens; scaled so that the mean of the diagonal is one, rho is the penalty.
    const float unit = static_cast<float>(2 * mean_ / static_cast<double>(moments_.tokens()));
    std::atomic<int> next{0};
    const auto work = [&](int, int) {
      std::vector<float> left(static_cast<size_t>(kRows) * static_cast<size_t>(cols_));
      for (int first; (first = next.fetch_add(kRows)) < cols_;) {
        const int count = std::min(kRows, cols_ - first), terms = first + count;
        for (int i = 0; i < count; ++i)
          for (int k = 0; k < terms; ++k) left[static_cast<size_t>(i * cols_ + k)] = unit * upper[static_cast<size_t>(k) * static_cast<size_t>(stride_) + static_cast<size_t>(first + i)];
        cpu::bestKernels().smallProduct(left.data(), cols_, upper.data(), stride_, count, terms, stride_, inverse_.data() + int64_t{first} * stride_, stride_, false);
      }
    };
    if (input.pool)
      input.pool->run(work);
    else
      work(0, 1);
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
      cpu::bestKernels().smallProduct(right.data(), stride_, inverse_.data(), stride_, count, cols_, stride_, d.data(), stride_, false);
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
  const int cols_, stride_, steps_;
  float penalty_ = 0;
  double mean_ = 0;
  std::vector<float> inverse_;  // P [cols, stride], of moments whose mean diagonal is one
};

}  // namespace

std::unique_ptr<Recovery> prepareAdmmRecovery(const RecoveryInput& input) { return std::make_unique<Admm>(input); }

}  // namespace winnow
