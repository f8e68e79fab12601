// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/constants.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "engine/core/check.h"

namespace winnow {
namespace {

constexpr std::pair<TensorRole, TensorRole> kBiases[] = {{TensorRole::q, TensorRole::qBias},       {TensorRole::k, TensorRole::kBias},   {TensorRole::v, TensorRole::vBias},
                                                         {TensorRole::o, TensorRole::oBias},       {TensorRole::gate, TensorRole::gateBias}, {TensorRole::up, TensorRole::upBias},
                                                         {TensorRole::down, TensorRole::downBias}};

double dot(const float* row, std::span<const double> means) {
  double sum = 0;
  for (size_t c = 0; c < means.size(); ++c) sum += static_cast<double>(row[c]) * means[c];
  return sum;
}

// left (right mean) of each row.
std::vector<double> meanOutputs(const ErrorFactors& error, std::span<const double> means) {
  std::vector<float> row(means.size()), weights(static_cast<size_t>(error.rank()));
  std::vector<double> inner(weights.size()), out(static_cast<size_t>(error.left.rows));
  for (size_t i = 0; i < inner.size(); ++i) {
    dequantizeRow(error.right, static_cast<int>(i), row.data());
    inner[i] = dot(row.data(), means);
  }
  for (size_t r = 0; r < out.size(); ++r) {
    dequantizeRow(error.left, static_cast<int>(r), weights.data());
    out[r] = dot(weights.data(), inner);
  }
  return out;
}

}  // namespace

TensorRole biasOf(TensorRole linear) {
  const auto* found = std::ranges::find(kBiases, linear, [](const auto& pair) { return pair.first; });
  CHECK(found != std::end(kBiases), "no linear layer of a block:", tensorRoleName(linear));
  return found->second;
}

TensorRole linearOf(TensorRole bias) {
  const auto* found = std::ranges::find(kBiases, bias, [](const auto& pair) { return pair.second; });
  return found == std::end(kBiases) ? TensorRole::count : found->first;
}

int64_t biasBytes(const Recipe& recipe, int rows) { return recipe.addsConstants() ? static_cast<int64_t>(kBiasFormat.bytes(1, rows)) : 0; }

std::vector<double> meanOutputs(const MasterTensor& tensor, std::span<const double> means, ThreadPool& pool, const Progress& progress) {
  constexpr int64_t kBand = 128;  // as a transposed one is read from the file
  CHECK(static_cast<int64_t>(means.size()) == tensor.cols, tensor.fileName, means.size());
  std::vector<double> out(static_cast<size_t>(tensor.rows));
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    std::vector<float> rows(static_cast<size_t>(kBand * tensor.cols));
    for (int64_t first; (first = next.fetch_add(kBand)) < tensor.rows && !progress.stopped();) {
      const int64_t count = std::min(kBand, tensor.rows - first);
      Model::decodeRows(tensor, first, count, rows.data());
      for (int64_t r = 0; r < count; ++r) out[static_cast<size_t>(first + r)] = dot(rows.data() + r * tensor.cols, means);
    }
  });
  return out;
}

Converted fitConstants(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, const ErrorFactors& error, ThreadPool& pool, const ConvertProgress& progress,
                       std::vector<float>& out) {
  const auto rows = static_cast<size_t>(stored.rows), cols = static_cast<size_t>(stored.cols);
  CHECK(inputs.means.size() == cols && (inputs.gone.empty() || inputs.gone.size() == rows), tensor.fileName, inputs.means.size(), inputs.gone.size());
  std::vector<double> lost = inputs.gone;
  lost.resize(rows);
  const bool whole = eachRowStored(tensor, inputs, stored, pool, progress, [&](int r, const float* was, const float* now) {
    double sum = 0;
    for (size_t c = 0; c < cols; ++c) sum += (static_cast<double>(was[c]) - static_cast<double>(now[c])) * inputs.means[c];
    for (const SuperWeight& weight : inputs.super) {
      const auto c = static_cast<size_t>(weight.column);
      if (weight.row == r) sum -= (static_cast<double>(was[c]) - static_cast<double>(now[c])) * inputs.means[c];
    }
    lost[static_cast<size_t>(r)] += sum;
  });
  if (!whole) return Converted::cancelled;
  if (error) {
    const std::vector<double> made = meanOutputs(error, inputs.means);
    for (size_t r = 0; r < rows; ++r) lost[r] -= made[r];
  }
  out.assign(lost.begin(), lost.end());
  return Converted::done;
}

}  // namespace winnow
