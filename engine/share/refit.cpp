// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/refit.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "engine/core/check.h"
#include "engine/weights/inverse_factor.h"

namespace winnow {
namespace {

constexpr int64_t kBlock = 64;   // sizes choleskyUpper() takes are multiples of it
constexpr int kTogether = 16;    // rows of a projection that are solved side by side

// Rows of W side by side, [cols][kTogether], so that each element of a square is read once for all of them.
class RowSolver {
 public:
  RowSolver(const double* factor /* [padded, padded], R of R^T R */, const double* square /* [cols, padded], Z^T S + l I */, int64_t cols, int64_t padded)
      : factor_(factor), square_(square), cols_(cols), padded_(padded), x_(static_cast<size_t>(padded * kTogether)), w_(x_.size()) {}

  void solve(const float* weights, int count, float* out) {
    std::fill(w_.begin(), w_.end(), 0.0);
    for (int r = 0; r < count; ++r)
      for (int64_t c = 0; c < cols_; ++c) at(w_, c)[r] = static_cast<double>(weights[r * cols_ + c]);
    std::fill(x_.begin(), x_.end(), 0.0);
    for (int64_t i = 0; i < cols_; ++i)
      for (int64_t j = 0; j < cols_; ++j) add(at(x_, j), at(w_, i), square_[i * padded_ + j]);
    for (int64_t i = 0; i < cols_; ++i) {
      const double* row = factor_ + i * padded_;
      for (int r = 0; r < kTogether; ++r) at(x_, i)[r] /= row[i];
      for (int64_t j = i + 1; j < cols_; ++j) add(at(x_, j), at(x_, i), -row[j]);
    }
    for (int64_t i = cols_ - 1; i >= 0; --i) {
      const double* row = factor_ + i * padded_;
      for (int64_t j = i + 1; j < cols_; ++j) add(at(x_, i), at(x_, j), -row[j]);
      for (int r = 0; r < kTogether; ++r) at(x_, i)[r] /= row[i];
    }
    for (int r = 0; r < count; ++r)
      for (int64_t c = 0; c < cols_; ++c) out[r * cols_ + c] = static_cast<float>(at(x_, c)[r]);
  }

 private:
  static double* at(std::vector<double>& v, int64_t column) { return v.data() + column * kTogether; }
  static void add(double* __restrict to, const double* __restrict from, double factor) {
    for (int r = 0; r < kTogether; ++r) to[r] += factor * from[r];
  }
  const double *factor_, *square_;
  int64_t cols_, padded_;
  std::vector<double> x_, w_;
};

double meanDiagonal(const SecondMoments& joint, int cols) {
  double sum = 0;
  for (int c = 0; c < cols; ++c) sum += static_cast<double>(joint.at(cols + c, cols + c));
  return sum > 0 ? sum / cols : 1;
}

// R of S^T S + prior I, in `factor`.
Refit factorize(const SecondMoments& joint, int cols, int64_t padded, double prior, ThreadPool& pool, const Progress& progress, std::vector<double>& factor) {
  factor.assign(static_cast<size_t>(padded * padded), 0.0);
  for (int64_t i = 0; i < padded; ++i) {
    double* row = factor.data() + i * padded;
    for (int64_t j = i; i < cols && j < cols; ++j) row[j] = static_cast<double>(joint.at(cols + static_cast<int>(i), cols + static_cast<int>(j)));
    row[i] = i < cols ? row[i] + prior : 1.0;
  }
  bool positive = false;
  if (!choleskyUpper(factor.data(), padded, pool, progress, positive)) return Refit::cancelled;
  return positive ? Refit::done : Refit::notPositive;
}

}  // namespace

Refit refitOutput(const SecondMoments& joint, const float* weights, int rows, double damping, ThreadPool& pool, const Progress& progress, float* out) {
  const int cols = joint.cols() / 2;
  const int64_t padded = (cols + kBlock - 1) / kBlock * kBlock;
  const double mean = meanDiagonal(joint, cols);
  std::vector<double> factor;
  Refit made = Refit::notPositive;
  for (; made == Refit::notPositive; damping = damping == 0 ? 1e-6 : 10 * damping) {
    if (damping > InverseFactor::kMostDamping) return made;
    made = factorize(joint, cols, padded, damping * mean, pool, progress, factor);
    if (made == Refit::done) break;
  }
  if (made != Refit::done) return made;
  std::vector<double> square(static_cast<size_t>(cols * padded));
  for (int i = 0; i < cols; ++i)
    for (int j = 0; j < cols; ++j) square[static_cast<size_t>(i * padded + j)] = static_cast<double>(joint.at(i, cols + j)) + (i == j ? damping * mean : 0);
  std::atomic<bool> stopped{false};
  pool.run([&](int thread, int threads) {
    RowSolver solver(factor.data(), square.data(), cols, padded);
    const auto range = ThreadPool::split(rows, kTogether, thread, threads);
    for (int64_t row = range.begin; row < range.end; row += kTogether) {
      if (progress.stopped()) return stopped.store(true);
      solver.solve(weights + row * cols, static_cast<int>(std::min<int64_t>(kTogether, range.end - row)), out + row * cols);
    }
  });
  return stopped.load() ? Refit::cancelled : Refit::done;
}

double outputDifference(const float* z, const float* w, const float* s, const float* v, int tokens, int rows, int cols, ThreadPool& pool) {
  std::vector<double> sums(static_cast<size_t>(rows));
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(rows, 1, thread, threads);
    for (int64_t row = range.begin; row < range.end; ++row) {
      const float *a = w + row * cols, *b = v + row * cols;
      for (int t = 0; t < tokens; ++t) {
        const float *x = z + int64_t{t} * cols, *y = s + int64_t{t} * cols;
        double lanes[4] = {};
        for (int c = 0; c < cols; ++c) lanes[c % 4] += static_cast<double>(a[c]) * static_cast<double>(x[c]) - static_cast<double>(b[c]) * static_cast<double>(y[c]);
        const double difference = lanes[0] + lanes[1] + lanes[2] + lanes[3];
        sums[static_cast<size_t>(row)] += difference * difference;
      }
    }
  });
  double sum = 0;
  for (const double row : sums) sum += row;
  return sum;
}

double outputDifference(const SecondMoments& joint, const float* w, const float* v, int rows, ThreadPool& pool) {
  const int both = joint.cols(), cols = both / 2;
  std::vector<double> sums(static_cast<size_t>(rows));
  pool.run([&](int thread, int threads) {
    std::vector<double> x(static_cast<size_t>(both)), moments(x.size());
    const auto range = ThreadPool::split(rows, 1, thread, threads);
    for (int64_t row = range.begin; row < range.end; ++row) {
      for (int c = 0; c < cols; ++c) {
        x[static_cast<size_t>(c)] = static_cast<double>(w[row * cols + c]);
        x[static_cast<size_t>(cols + c)] = -static_cast<double>(v[row * cols + c]);
      }
      joint.times(x.data(), moments.data());
      double sum = 0;
      for (size_t c = 0; c < x.size(); ++c) sum += x[c] * moments[c];
      sums[static_cast<size_t>(row)] = sum;
    }
  });
  double sum = 0;
  for (const double row : sums) sum += row;
  return sum;
}

}  // namespace winnow
