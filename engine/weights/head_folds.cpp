// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/head_folds.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/weights/leading_directions.h"

namespace winnow {
namespace {

constexpr int kRows = 16;

float dot(const float* a, const float* b, int n, int stride) {
  double sum = 0;
  for (int c = 0; c < n; ++c) sum += static_cast<double>(a[c]) * b[static_cast<int64_t>(c) * stride];
  return static_cast<float>(sum);
}

}  // namespace

// With A = E S^2 E^T, the values are E S times something orthonormal, and S E^T B E S = U T^2 U^T has the singular values T of what O makes of
// them. F = U_k^T S^-1 E^T and G^T = U_k^T S E^T.
std::vector<double> foldHead(std::vector<double> spent, const std::vector<double>& wanted, int n, int k, std::vector<float>& values, std::vector<float>& outputs) {
  const auto at = [n](int i, int j) { return static_cast<size_t>(i) * static_cast<size_t>(n) + static_cast<size_t>(j); };
  CHECK(k > 0 && k <= n && spent.size() == wanted.size() && spent.size() == at(n, 0), n, k, spent.size());
  const Eigen first = symmetricEigen(std::move(spent), n);  // rows of vectors
  std::vector<double> root(static_cast<size_t>(n)), half(first.vectors), middle(half.size());
  for (int i = 0; i < n; ++i) root[static_cast<size_t>(i)] = std::sqrt(std::max(first.values[static_cast<size_t>(i)], 0.0));
  const double least = 1e-6 * root.front();  // below that lies rounding alone
  for (int i = 0; i < n; ++i) {
    if (root[static_cast<size_t>(i)] <= least) root[static_cast<size_t>(i)] = 0;
    for (int c = 0; c < n; ++c) half[at(i, c)] *= root[static_cast<size_t>(i)];
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j) {
      double sum = 0;
      for (int c = 0; c < n; ++c) {
        double row = 0;
        for (int d = 0; d < n; ++d) row += wanted[at(c, d)] * half[at(j, d)];
        sum += half[at(i, c)] * row;
      }
      middle[at(i, j)] = middle[at(j, i)] = sum;
    }
  const Eigen second = symmetricEigen(std::move(middle), n);
  for (int i = 0; i < k; ++i)
    for (int c = 0; c < n; ++c) {
      double f = 0, g = 0;
      for (int j = 0; j < n; ++j) {
        const double s = root[static_cast<size_t>(j)], along = second.vectors[at(i, j)] * first.vectors[at(j, c)];
        if (s > 0) f += along / s;
        g += along * s;
      }
      values.push_back(static_cast<float>(f));
      outputs.push_back(static_cast<float>(g));
    }
  std::vector<double> singular;
  for (const double value : second.values) singular.push_back(std::sqrt(std::max(value, 0.0)));
  return singular;
}

MasterTensor foldedShape(MasterTensor whole, const HeadFolds& folds) {
  if (whole.role == TensorRole::v)
    whole.rows = int64_t{folds.kvHeads} * folds.kept;
  else
    whole.cols = int64_t{folds.kvHeads} * folds.kept * (whole.role == TensorRole::o ? folds.group : 1);
  return whole;
}

void readFolded(const MasterTensor& whole, const HeadFolds& folds, int first, int count, float* out) {
  const int n = folds.whole, k = folds.kept;
  const auto cols = static_cast<size_t>(whole.cols);
  const auto factor = [&](const std::vector<float>& of, int head, int i) { return of.data() + (static_cast<size_t>(head) * static_cast<size_t>(k) + static_cast<size_t>(i)) * static_cast<size_t>(n); };
  if (whole.role == TensorRole::v) {
    std::vector<float> head(static_cast<size_t>(n) * cols);
    for (int r = 0, held = -1; r < count; ++r) {
      const int at = (first + r) / k;
      if (at != held) Model::decodeRows(whole, int64_t{at} * n, n, head.data());
      held = at;
      for (size_t c = 0; c < cols; ++c) out[static_cast<size_t>(r) * cols + c] = dot(factor(folds.values, at, (first + r) % k), head.data() + c, n, static_cast<int>(cols));
    }
    return;
  }
  CHECK(whole.role == TensorRole::o || whole.role == TensorRole::vBias, tensorRoleName(whole.role));
  const bool bias = whole.role == TensorRole::vBias;
  const int heads = folds.kvHeads * (bias ? 1 : folds.group), wide = heads * k;
  std::vector<float> row(cols);
  for (int r = 0; r < count; ++r) {
    Model::decodeRows(whole, first + r, 1, row.data());
    for (int c = 0; c < wide; ++c) {
      const int head = c / k, kvHead = bias ? head : head / folds.group;
      out[static_cast<size_t>(r) * static_cast<size_t>(wide) + static_cast<size_t>(c)] = dot(factor(bias ? folds.values : folds.outputs, kvHead, c % k), row.data() + static_cast<size_t>(head) * static_cast<size_t>(n), n, 1);
    }
  }
}

FoldedTensor::FoldedTensor(const MasterTensor& whole, const HeadFolds& folds, ThreadPool& pool) : tensor_(foldedShape(whole, folds)) {
  values_.resize(static_cast<size_t>(tensor_.rows * tensor_.cols));
  const int64_t band = whole.role == TensorRole::v ? folds.kept : kRows;
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tensor_.rows, band, thread, threads);
    for (int64_t row = range.begin; row < range.end; row += band)
      readFolded(whole, folds, static_cast<int>(row), static_cast<int>(std::min(band, range.end - row)), values_.data() + row * tensor_.cols);
  });
  tensor_.firstStoredRow = tensor_.firstStoredCol = 0;
  tensor_.unpermuteHeads = tensor_.unpermuteDims = 0;
  tensor_.transposed = false;
  tensor_.type = DType::f32;
  tensor_.data = reinterpret_cast<const std::byte*>(values_.data());
  tensor_.storedRowBytes = static_cast<size_t>(tensor_.cols) * sizeof(float);
}

}  // namespace winnow
