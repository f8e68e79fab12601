// SPDX-License-Identifier: GPL-3.0-or-later
// With J the reversal of rows, J H J = R^T R gives H = A A^T with A = J R^T J upper triangular, so U = A^-1: one Cholesky factorization and one
// triangular inverse instead of an inverse between two factorizations.
#include "engine/weights/inverse_factor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/weights/double_blocks.h"

namespace winnow {
namespace {

constexpr int64_t kBlock = kDoubleBlock;
using Block = DoubleBlock;

// The factor of one block; false when a pivot is not positive.
bool factorBlock(double* a, int64_t stride) {
  for (int64_t k = 0; k < kBlock; ++k) {
    double* row = a + k * stride;
    if (!(row[k] > 0) || !std::isfinite(row[k])) return false;
    const double root = std::sqrt(row[k]);
    for (int64_t j = k; j < kBlock; ++j) row[j] /= root;
    for (int64_t i = k + 1; i < kBlock; ++i)
      for (int64_t j = i; j < kBlock; ++j) a[i * stride + j] -= row[i] * row[j];
  }
  return true;
}

// x [64, 64] becomes R^-T x.
void solveBlock(const double* r, double* x, int64_t stride) {
  for (int64_t k = 0; k < kBlock; ++k) {
    double* row = x + k * stride;
    const double pivot = r[k * stride + k];
    for (int64_t j = 0; j < kBlock; ++j) row[j] /= pivot;
    for (int64_t i = k + 1; i < kBlock; ++i) {
      const double factor = r[k * stride + i];
      for (int64_t j = 0; j < kBlock; ++j) x[i * stride + j] -= factor * row[j];
    }
  }
}

void invertBlock(const double* r, int64_t stride, Block& inverse) {
  inverse.fill(0);
  for (int64_t i = kBlock - 1; i >= 0; --i) {
    const double pivot = 1 / r[i * stride + i];
    inverse[static_cast<size_t>(i * kBlock + i)] = pivot;
    for (int64_t j = i + 1; j < kBlock; ++j) {
      double sum = 0;
      for (int64_t k = i + 1; k <= j; ++k) sum += r[i * stride + k] * inverse[static_cast<size_t>(k * kBlock + j)];
      inverse[static_cast<size_t>(i * kBlock + j)] = -pivot * sum;
    }
  }
}

std::vector<int> byFallingDiagonal(const SecondMoments& moments) {
  std::vector<int> order(static_cast<size_t>(moments.cols()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return moments.at(a, a) > moments.at(b, b); });
  return order;
}

}  // namespace

bool choleskyUpper(double* a, int64_t n, ThreadPool& pool, const Progress& progress, bool& positive) {
  CHECK(n % kBlock == 0, n);
  const auto& kernels = cpu::bestKernels();
  positive = true;
  for (int64_t b = 0; b < n; b += kBlock) {
    if (progress.stopped()) return false;
    double* rows = a + b * n;
    positive = factorBlock(rows + b, n);
    if (!positive) return true;
    const int64_t right = b + kBlock, left = (n - right) / kBlock;
    eachItem(pool, left, [&](int64_t j) {
      // The pivots' block and the columns share their stride, so R is read where it lies.
      solveBlock(rows + b, rows + right + j * kBlock, n);
    });
    eachItem(pool, left * left, [&](int64_t item) {
      const int64_t i = item / left, j = item % left;
      if (j < i) return;
      double* tile = a + (right + i * kBlock) * n + right + j * kBlock;
      kernels.subtractProduct(rows + right + i * kBlock, 1, n, rows + right + j * kBlock, n, kBlock, tile, n);
    });
  }
  return true;
}

bool invertUpper(double* a, int64_t n, ThreadPool& pool, const Progress& progress) {
  CHECK(n % kBlock == 0, n);
  const auto& kernels = cpu::bestKernels();
  std::vector<double> rows(static_cast<size_t>(kBlock * n));  // R's block row, which its inverse replaces
  Block inverse;
  for (int64_t b = n - kBlock; b >= 0; b -= kBlock) {
    if (progress.stopped()) return false;
    for (int64_t i = 0; i < kBlock; ++i) std::copy_n(a + (b + i) * n + b, n - b, rows.data() + i * n + b);
    invertBlock(a + b * n + b, n, inverse);
    for (double& value : inverse) value = -value;
    eachItem(pool, (n - b) / kBlock - 1, [&](int64_t item) {
      const int64_t column = b + (item + 1) * kBlock;
      Block sum{}, solved{};
      for (int64_t c = b + kBlock; c <= column; c += kBlock)
        kernels.subtractProduct(rows.data() + c, n, 1, a + c * n + column, n, kBlock, sum.data(), kBlock);
      kernels.subtractProduct(inverse.data(), kBlock, 1, sum.data(), kBlock, kBlock, solved.data(), kBlock);
      for (int64_t i = 0; i < kBlock; ++i)
        for (int64_t j = 0; j < kBlock; ++j) a[(b + i) * n + column + j] = solved[static_cast<size_t>(i * kBlock + j)];
    });
    for (int64_t i = 0; i < kBlock; ++i)
      for (int64_t j = 0; j < kBlock; ++j) a[(b + i) * n + b + j] = -inverse[static_cast<size_t>(i * kBlock + j)];
  }
  return true;
}

InverseFactor::Outcome InverseFactor::make(Ledger& ledger, const SecondMoments& moments, const FactorOptions& options, ThreadPool& pool, const Progress& progress) {
  const int64_t n = moments.cols(), padded = (n + kBlock - 1) / kBlock * kBlock;
  CHECK(n > 0 && moments.tokens() > 0, n, moments.tokens());
  cols_ = static_cast<int>(n);
  order_ = options.ordered ? byFallingDiagonal(moments) : std::vector<int>();
  dead_.clear();
  const double unit = 2 / static_cast<double>(moments.tokens());
  double mean = 0;
  for (int c = 0; c < cols_; ++c) {
    const double diagonal = unit * static_cast<double>(moments.at(c, c));
    if (diagonal == 0) dead_.push_back(c);
    mean += diagonal;
  }
  const auto live = static_cast<double>(cols_) - static_cast<double>(dead_.size());
  mean = live > 0 ? mean / live : 1;

  const auto column = [&](int64_t position) { return options.ordered ? order_[static_cast<size_t>(position)] : static_cast<int>(position); };
  Buffer square(ledger, MemoryTag::calibration, static_cast<size_t>(padded * padded) * sizeof(double));
  double* a = square.as<double>();
  bool positive = false;
  for (damping_ = options.damping; !positive; damping_ *= positive ? 1 : 10) {
    if (damping_ > kMostDamping) return Outcome::notPositive;
    eachItem(pool, padded, [&](int64_t i) {
      double* row = a + i * padded;
      for (int64_t j = i; j < padded; ++j) row[j] = i >= n || j >= n ? 0 : unit * static_cast<double>(moments.at(column(n - 1 - i), column(n - 1 - j)));
      row[i] = i >= n ? 1 : (row[i] == 0 ? mean : row[i]) + damping_ * mean;
    });
    if (!choleskyUpper(a, padded, pool, progress, positive)) return Outcome::cancelled;
    if (damping_ == 0) damping_ = positive ? 0 : 1e-5;
  }
  if (!invertUpper(a, padded, pool, progress)) return Outcome::cancelled;
  upper_ = Buffer(ledger, MemoryTag::calibration, static_cast<size_t>(n * n) * sizeof(float));
  eachItem(pool, n, [&](int64_t i) {
    float* row = upper_.as<float>() + i * n;
    for (int64_t j = i; j < n; ++j) row[j] = static_cast<float>(a[(n - 1 - j) * padded + n - 1 - i]);
  });
  return Outcome::done;
}

}  // namespace winnow
