// SPDX-License-Identifier: GPL-3.0-or-later
// The weights a row kept, fitted anew by least squares (pruning_sharing_attribution.md, J4, exact): with S the columns that stay, what is added
// to them solves (C_SS + damping mean(diag C) I) d = [C (w0 - w)^T]_S. Every row has its own S, so each takes a Cholesky factorization
// of the size of S, in double: right for small models and a yardstick for large ones, where ADMM takes its place.
#include <algorithm>

#include "engine/core/check.h"
#include "engine/recover/methods.h"

namespace winnow {
namespace {

constexpr int64_t kBlock = 64;  // sizes choleskyUpper() takes are multiples of it

class LeastSquares final : public Recovery {
 public:
  explicit LeastSquares(const RecoveryInput& input) : moments_(*input.statistics.moments), mean_(moments_.meanDiagonal()), damping_(input.damping) {
    CHECK(moments_.cols() == input.cols, moments_.cols(), input.cols);
  }

  void apply(const float* dense, float* pruned, int count) const override {
    const auto cols = static_cast<size_t>(moments_.cols());
    Row row{ThreadPool(1), {}, {}, {}};
    for (int r = 0; r < count; ++r) fit(dense + static_cast<size_t>(r) * cols, pruned + static_cast<size_t>(r) * cols, row);
  }

 private:
  struct Row {
    ThreadPool alone;  // rows are what threads share
    std::vector<int> kept;
    std::vector<double> square, solution;
  };

  void fit(const float* dense, float* pruned, Row& row) const {
    row.kept.clear();
    for (int c = 0; c < moments_.cols(); ++c)
      if (pruned[c] != 0.0f && moments_.at(c, c) > 0.0f) row.kept.push_back(c);
    if (row.kept.empty()) return;
    const std::vector<double> lost = lostMoments(moments_, dense, pruned);
    const auto size = static_cast<int64_t>(row.kept.size()), padded = (size + kBlock - 1) / kBlock * kBlock;
    bool positive = false;
    for (double damping = damping_; !positive; damping = damping == 0 ? 1e-6 : 10 * damping) {
      if (damping > InverseFactor::kMostDamping) return;  // nothing can be solved for: the row stays as pruning left it
      gather(row, size, padded, damping * mean_);
      choleskyUpper(row.square.data(), padded, row.alone, {}, positive);
    }
    row.solution.assign(static_cast<size_t>(padded), 0.0);
    for (size_t i = 0; i < row.kept.size(); ++i) row.solution[i] = lost[static_cast<size_t>(row.kept[i])];
    solve(row.square.data(), padded, size, row.solution.data());
    for (size_t i = 0; i < row.kept.size(); ++i) {
      float& weight = pruned[row.kept[i]];
      weight = static_cast<float>(static_cast<double>(weight) + row.solution[i]);
    }
  }

  // The upper triangle of C_SS + prior I; ones on the diagonal of what fills the last block.
  void gather(Row& row, int64_t size, int64_t padded, double prior) const {
    row.square.assign(static_cast<size_t>(padded * padded), 0.0);
    for (int64_t i = 0; i < padded; ++i) {
      double* to = row.square.data() + i * padded;
      for (int64_t j = i; i < size && j < size; ++j) to[j] = static_cast<double>(moments_.at(row.kept[static_cast<size_t>(i)], row.kept[static_cast<size_t>(j)]));
      to[i] = i < size ? to[i] + prior : 1.0;
    }
  }

  // x of R^T R x = b in place of b.
  static void solve(const double* r, int64_t stride, int64_t size, double* x) {
    for (int64_t i = 0; i < size; ++i) {
      const double* row = r + i * stride;
      x[i] /= row[i];
      for (int64_t j = i + 1; j < size; ++j) x[j] -= row[j] * x[i];
    }
    for (int64_t i = size - 1; i >= 0; --i) {
      const double* row = r + i * stride;
      double sum = x[i];
      for (int64_t j = i + 1; j < size; ++j) sum -= row[j] * x[j];
      x[i] = sum / row[i];
    }
  }

  const SecondMoments& moments_;
  double mean_, damping_;
};

}  // namespace

std::unique_ptr<Recovery> prepareLeastSquaresRecovery(const RecoveryInput& input) { return std::make_unique<LeastSquares>(input); }

}  // namespace winnow
