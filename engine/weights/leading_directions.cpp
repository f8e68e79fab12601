// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/leading_directions.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"

namespace winnow {
namespace {

constexpr int kFewRows = 96;  // all directions at once: no iteration
constexpr int kMostSteps = 40;
constexpr double kEnough = 1e-4;
constexpr int kTile = 64;  // columns of a product that one thread makes at a time

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// Multiplies blocks of vectors, rows of [vectors, stride()], by C.
class ErrorEnergy {
 public:
  ErrorEnergy(const std::vector<float>& error, int rows, const DenseSquare& moments, ThreadPool& pool)
      : error_(error), rows_(rows), stride_(padded(rows)), moments_(moments), pool_(pool),
        across_(static_cast<size_t>(moments.cols()) * static_cast<size_t>(stride_)) {
    CHECK(static_cast<int64_t>(error.size()) == int64_t{rows} * moments.stride(), error.size(), rows);
    for (int64_t c = 0; c < moments.cols(); ++c)
      for (int64_t r = 0; r < rows; ++r) across_[static_cast<size_t>(c * stride_ + r)] = error[static_cast<size_t>(r * moments.stride() + c)];
  }
  int64_t stride() const { return stride_; }

  std::vector<float> times(const std::vector<float>& block, int vectors) const {
    const auto count = static_cast<size_t>(vectors);
    const int64_t cols = moments_.stride();
    std::vector<float> seen(count * static_cast<size_t>(cols)), met(seen.size()), out(count * static_cast<size_t>(stride_));
    product(block.data(), stride_, error_.data(), cols, vectors, rows_, seen.data());
    each((vectors + 15) / 16, [&](int64_t piece) {
      const int64_t first = piece * 16;
      moments_.times(seen.data() + first * cols, static_cast<int>(std::min<int64_t>(16, vectors - first)), met.data() + first * cols);
    });
    product(met.data(), cols, across_.data(), stride_, vectors, moments_.cols(), out.data());
    return out;
  }

 private:
  template <class Body>
  void each(int64_t count, Body&& body) const {
    std::atomic<int64_t> next{0};
    pool_.run([&](int, int) {
      for (int64_t item; (item = next.fetch_add(1)) < count;) body(item);
    });
  }
  // out [vectors, bStride] = a [vectors, aStride] b [terms, bStride]
  void product(const float* a, int64_t aStride, const float* b, int64_t bStride, int vectors, int terms, float* out) const {
    each((bStride + kTile - 1) / kTile, [&](int64_t tile) {
      const int64_t first = tile * kTile;
      cpu::bestKernels().smallProduct(a, aStride, b + first, bStride, vectors, terms, static_cast<int>(std::min<int64_t>(kTile, bStride - first)), out + first, bStride,
                                      false);
    });
  }

  const std::vector<float>& error_;  // [rows, moments.stride()]
  int rows_;
  int64_t stride_;
  const DenseSquare& moments_;
  ThreadPool& pool_;
  std::vector<float> across_;  // [cols, stride], transposed
};

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// Gram-Schmidt, twice, so that a row which nearly lies in the span of those before becomes one that does not.
void orthonormalize(std::vector<float>& block, int vectors, int64_t stride) {
  for (int i = 0; i < vectors; ++i) {
    float* row = block.data() + i * stride;
    for (int pass = 0; pass < 2; ++pass)
      for (int j = 0; j < i; ++j) {
        const float* other = block.data() + j * stride;
        const double along = dot(row, other, stride);
        for (int64_t c = 0; c < stride; ++c) row[c] = static_cast<float>(static_cast<double>(row[c]) - along * static_cast<double>(other[c]));
      }
    const double left = std::sqrt(dot(row, row, stride));
    const double factor = left > 0 ? 1 / left : 0;
    for (int64_t c = 0; c < stride; ++c) row[c] = static_cast<float>(factor * static_cast<double>(row[c]));
  }
}

// The block that spans what C makes largest; false when stopped.
bool iterate(const ErrorEnergy& energy, std::vector<float>& block, int vectors, const Progress& progress) {
  double last = 0;
  for (int step = 0; step < kMostSteps; ++step) {
    if (progress.stopped()) return false;
    std::vector<float> next = energy.times(block, vectors);
    const double found = dot(block.data(), next.data(), static_cast<int64_t>(block.size()));  // the trace of C in the block
    block = std::move(next);
    orthonormalize(block, vectors, energy.stride());
    if (found - last <= kEnough * found) break;
    last = found;
  }
  return true;
}

// Rotates the block so that its first rows are the eigenvectors of C within its span.
Directions ritz(const ErrorEnergy& energy, const std::vector<float>& block, int vectors, int count, int rows) {
  const int64_t stride = energy.stride();
  const std::vector<float> image = energy.times(block, vectors);
  std::vector<double> small(static_cast<size_t>(vectors) * static_cast<size_t>(vectors));
  for (int i = 0; i < vectors; ++i)
    for (int j = 0; j <= i; ++j) {
      const double both = dot(block.data() + i * stride, image.data() + j * stride, stride) + dot(block.data() + j * stride, image.data() + i * stride, stride);
      small[static_cast<size_t>(i * vectors + j)] = small[static_cast<size_t>(j * vectors + i)] = both / 2;
    }
  const Eigen eigen = symmetricEigen(std::move(small), vectors);
  Directions out{std::vector<float>(static_cast<size_t>(count) * static_cast<size_t>(rows)), {eigen.values.begin(), eigen.values.begin() + count}};
  std::vector<double> sum(static_cast<size_t>(rows));
  for (int i = 0; i < count; ++i) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int j = 0; j < vectors; ++j) {
      const double weight = eigen.vectors[static_cast<size_t>(i * vectors + j)];
      for (int r = 0; r < rows; ++r) sum[static_cast<size_t>(r)] += weight * static_cast<double>(block[static_cast<size_t>(j * stride + r)]);
    }
    for (int r = 0; r < rows; ++r) out.vectors[static_cast<size_t>(i) * static_cast<size_t>(rows) + static_cast<size_t>(r)] = static_cast<float>(sum[static_cast<size_t>(r)]);
  }
  return out;
}

}  // namespace

bool leadingDirections(const std::vector<float>& error, int rows, const DenseSquare& moments, int count, ThreadPool& pool, const Progress& progress,
                       Directions& out) {
  CHECK(count > 0 && count <= rows, count, rows);
  const ErrorEnergy energy(error, rows, moments, pool);
  const int more = count + std::max(16, count / 4), vectors = rows <= kFewRows ? rows : std::min(more, rows);
  std::vector<float> block(static_cast<size_t>(vectors) * static_cast<size_t>(energy.stride()));
  if (vectors == rows) {
    for (int i = 0; i < vectors; ++i) block[static_cast<size_t>(i * energy.stride() + i)] = 1;
  } else {
    std::mt19937 rng(1);
    for (int i = 0; i < vectors; ++i)
      for (int r = 0; r < rows; ++r) block[static_cast<size_t>(i * energy.stride() + r)] = static_cast<float>(rng()) / 2147483648.0f - 1;
    orthonormalize(block, vectors, energy.stride());
    if (!iterate(energy, block, vectors, progress)) return false;
  }
  out = ritz(energy, block, vectors, count, rows);
  return !progress.stopped();
}

Eigen symmetricEigen(std::vector<double> a, int n) {
  const auto size = static_cast<size_t>(n);
  CHECK(a.size() == size * size, a.size(), n);
  std::vector<double> v(size * size);
  for (size_t i = 0; i < size; ++i) v[i * size + i] = 1;
  const auto rotateRows = [size](std::vector<double>& m, size_t p, size_t q, double c, double s) {
    for (size_t k = 0; k < size; ++k) {
      const double x = m[p * size + k], y = m[q * size + k];
      m[p * size + k] = c * x - s * y;
      m[q * size + k] = s * x + c * y;
    }
  };
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0, all = 0;
    for (size_t i = 0; i < size; ++i)
      for (size_t j = 0; j < size; ++j) (i == j ? all : off) += a[i * size + j] * a[i * size + j];
    if (off <= 1e-28 * all) break;
    for (size_t p = 0; p + 1 < size; ++p)
      for (size_t q = p + 1; q < size; ++q) {
        const double apq = a[p * size + q], app = a[p * size + p], aqq = a[q * size + q];
        if (std::fabs(apq) <= 1e-16 * std::sqrt(std::fabs(app * aqq))) continue;
        const double theta = (aqq - app) / (2 * apq), t = std::copysign(1.0, theta) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        rotateRows(a, p, q, c, s);
        for (size_t k = 0; k < size; ++k) {  // columns: all but the four below are those of the rows
          a[k * size + p] = a[p * size + k];
          a[k * size + q] = a[q * size + k];
        }
        a[p * size + p] = app - t * apq;
        a[q * size + q] = aqq + t * apq;
        a[p * size + q] = a[q * size + p] = 0;
        rotateRows(v, p, q, c, s);
      }
  }
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return a[x * size + x] > a[y * size + y]; });
  Eigen out{std::vector<double>(size), std::vector<double>(size * size)};
  for (size_t i = 0; i < size; ++i) {
    out.values[i] = a[order[i] * size + order[i]];
    std::copy_n(v.begin() + static_cast<std::ptrdiff_t>(order[i] * size), size, out.vectors.begin() + static_cast<std::ptrdiff_t>(i * size));
  }
  return out;
}

}  // namespace winnow
