// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/error_factors.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/isa.h"
#include "engine/weights/dense_square.h"
#include "engine/weights/leading_directions.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows;

// Master less stored rows, [rows, stride], zero beyond the columns. Empty when stopped.
std::vector<float> errorsOf(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, int stride, ThreadPool& pool, const ConvertProgress& progress) {
  std::vector<float> error(static_cast<size_t>(stored.rows) * static_cast<size_t>(stride));
  const bool whole = eachRowStored(tensor, inputs, stored, pool, progress, [&](int r, const float* was, const float* now) {
    float* row = error.data() + int64_t{r} * stride;
    for (int c = 0; c < stored.cols; ++c) row[c] = was[c] - now[c];
  });
  for (const SuperWeight& weight : inputs.super) error[static_cast<size_t>(int64_t{weight.row} * stride + weight.column)] = 0;
  return whole ? error : std::vector<float>();
}

void writeHalf(const Matrix& to, const std::vector<float>& values) {
  CHECK(static_cast<int64_t>(values.size()) == int64_t{to.rows} * to.cols, values.size());
  cpu::bestKernels().toHalf(values.data(), static_cast<int64_t>(values.size()), to.codes.as<uint16_t>());
}

// As many directions as there are outputs or inputs: the error itself and the identity.
void wholeError(const std::vector<float>& error, int stride, ErrorFactors& out) {
  const int rank = out.rank(), rows = out.left.rows, cols = out.right.cols;
  std::vector<float> identity(static_cast<size_t>(rank) * static_cast<size_t>(rank)), dense;
  for (int i = 0; i < rank; ++i) identity[static_cast<size_t>(i) * static_cast<size_t>(rank + 1)] = 1;
  for (int r = 0; r < rows; ++r) dense.insert(dense.end(), error.begin() + int64_t{r} * stride, error.begin() + int64_t{r} * stride + cols);
  writeHalf(rank == rows ? out.left : out.right, identity);
  writeHalf(rank == rows ? out.right : out.left, dense);
}

// left = U^T, right = U^T E, each pair of a column and a row with one largest magnitude, far from where f16 ends.
void project(const Directions& directions, const std::vector<float>& error, int stride, ThreadPool& pool, ErrorFactors& out) {
  const int rank = out.rank(), rows = out.left.rows, cols = out.right.cols;
  std::vector<float> left(static_cast<size_t>(rows) * static_cast<size_t>(rank)), right(static_cast<size_t>(rank) * static_cast<size_t>(cols));
  std::atomic<int> next{0};
  pool.run([&](int, int) {
    std::vector<double> sum(static_cast<size_t>(cols));
    for (int i; (i = next.fetch_add(1)) < rank;) {
      const float* u = directions.vectors.data() + int64_t{i} * rows;
      std::fill(sum.begin(), sum.end(), 0.0);
      double above = 0, beside = 0;
      for (int r = 0; r < rows; ++r) {
        const float* row = error.data() + int64_t{r} * stride;
        for (int c = 0; c < cols; ++c) sum[static_cast<size_t>(c)] += static_cast<double>(u[r]) * static_cast<double>(row[c]);
        above = std::max(above, std::fabs(static_cast<double>(u[r])));
      }
      for (const double each : sum) beside = std::max(beside, std::fabs(each));
      const double even = above > 0 && beside > 0 ? std::sqrt(beside / above) : 0;
      for (int r = 0; r < rows; ++r) left[static_cast<size_t>(int64_t{r} * rank + i)] = static_cast<float>(static_cast<double>(u[r]) * even);
      for (int c = 0; c < cols; ++c) right[static_cast<size_t>(int64_t{i} * cols + c)] = static_cast<float>(even > 0 ? sum[static_cast<size_t>(c)] / even : 0);
    }
  });
  writeHalf(out.left, left);
  writeHalf(out.right, right);
}

}  // namespace

bool eachRowStored(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, ThreadPool& pool, const ConvertProgress& progress,
                   const std::function<void(int row, const float* was, const float* now)>& take) {
  const int claim = tensor.transposed ? 8 * kTile : kTile;
  std::atomic<int> next{0};
  pool.run([&](int, int) {
    std::vector<float> master(static_cast<size_t>(claim) * static_cast<size_t>(stored.cols)), now(static_cast<size_t>(stored.cols));
    for (int first; (first = next.fetch_add(claim)) < stored.rows && !progress.stopped();) {
      const int count = std::min(claim, stored.rows - first);
      decodeScaled(tensor, first, count, inputs.scaling, master.data());
      for (int r = 0; r < count; ++r) {
        dequantizeRow(stored, first + r, now.data());
        take(first + r, master.data() + int64_t{r} * stored.cols, now.data());
      }
      std::this_thread::yield();
    }
  });
  return !progress.stopped();
}

void ErrorFactors::addRow(int r, float* row) const {
  std::vector<float> weights(static_cast<size_t>(rank())), part(static_cast<size_t>(right.cols));
  dequantizeRow(left, r, weights.data());
  for (int i = 0; i < rank(); ++i) {
    dequantizeRow(right, i, part.data());
    cpu::bestKernels().addScaled(row, part.data(), right.cols, weights[static_cast<size_t>(i)]);
  }
}

int errorRankOf(const Recipe& recipe, int rows, int cols) { return std::min({recipe.errorRank, rows, cols}); }

int64_t errorBytes(const Recipe& recipe, int rows, int cols) {
  const int rank = errorRankOf(recipe, rows, cols);
  return static_cast<int64_t>(kFactorFormat.bytes(rows, rank) + kFactorFormat.bytes(rank, cols));
}

ErrorFactors allocateFactors(Ledger& ledger, const Recipe& recipe, int rows, int cols) {
  const int rank = errorRankOf(recipe, rows, cols);
  ErrorFactors out;
  if (rank == 0) return out;
  out.left = Matrix::allocate(ledger, kFactorFormat, rows, rank);
  out.right = Matrix::allocate(ledger, kFactorFormat, rank, cols);
  return out;
}

// Inputs that were scaled by s come as x / s: in their directions E counts as E / s.
Converted fitErrors(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, ThreadPool& pool, const ConvertProgress& progress, ErrorFactors& out) {
  CHECK(inputs.moments && inputs.moments->cols() == stored.cols && out.left.rows == stored.rows && out.right.cols == stored.cols, tensor.fileName);
  const DenseSquare moments = DenseSquare::ofMoments(*inputs.moments);
  const int stride = moments.stride();
  const std::vector<float> error = errorsOf(tensor, inputs, stored, stride, pool, progress);
  if (error.empty()) return Converted::cancelled;
  if (out.rank() == std::min(stored.rows, stored.cols)) {
    wholeError(error, stride, out);
    return Converted::done;
  }
  const std::span<const float> scales = inputs.scaling.columns;
  std::vector<float> unscaled = scales.empty() ? std::vector<float>() : error;
  for (size_t i = 0; i < unscaled.size(); ++i)
    if (const size_t c = i % static_cast<size_t>(stride); c < scales.size()) unscaled[i] /= scales[c];
  Directions directions;
  if (!leadingDirections(scales.empty() ? error : unscaled, stored.rows, moments, out.rank(), pool, progress.progress(), directions)) return Converted::cancelled;
  project(directions, error, stride, pool, out);
  return Converted::done;
}

}  // namespace winnow
