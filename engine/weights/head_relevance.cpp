// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/head_relevance.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"

namespace winnow {
namespace {

struct Moments {
  double mean = 0, factor = 0;  // 1 / the root of the variance, or of the mean square
};
Moments momentsOf(const ModelConfig& config, const float* x, int n) {
  double mean = 0, squares = 0;
  for (int c = 0; c < n && config.norm == NormKind::layer; ++c) mean += static_cast<double>(x[c]) / n;
  for (int c = 0; c < n; ++c) squares += (x[c] - mean) * (x[c] - mean);
  return {mean, 1 / std::sqrt(squares / n + static_cast<double>(config.normEps))};
}

double along(const PaddedRows& a, const PaddedRows& b) {
  double sum = 0;
  for (size_t i = 0; i < a.values.size(); ++i) sum += static_cast<double>(a.values[i]) * b.values[i];
  return sum;
}

}  // namespace

PaddedRows HeadRelevance::Norm::apply(const ModelConfig& config, const PaddedRows& x) const {
  PaddedRows out(x.rows, x.cols);
  for (int t = 0; t < x.rows; ++t) {
    const Moments m = momentsOf(config, x.row(t), x.cols);
    for (int c = 0; c < x.cols; ++c)
      out.row(t)[c] = static_cast<float>((x.row(t)[c] - m.mean) * m.factor * weight[static_cast<size_t>(c)] + (bias.empty() ? 0 : bias[static_cast<size_t>(c)]));
  }
  return out;
}

// The denominator is a constant; the mean that a layer norm takes away is not.
PaddedRows HeadRelevance::Norm::back(const ModelConfig& config, const PaddedRows& x, const PaddedRows& dy, double* taken) const {
  PaddedRows out(x.rows, x.cols);
  for (int t = 0; t < x.rows; ++t) {
    const Moments m = momentsOf(config, x.row(t), x.cols);
    double mean = 0;
    for (int c = 0; c < x.cols; ++c) {
      out.row(t)[c] = static_cast<float>(m.factor * weight[static_cast<size_t>(c)] * dy.row(t)[c]);
      mean += static_cast<double>(out.row(t)[c]) / x.cols;
      if (!bias.empty()) *taken += static_cast<double>(bias[static_cast<size_t>(c)]) * dy.row(t)[c];
    }
    for (int c = 0; c < x.cols && config.norm == NormKind::layer; ++c) out.row(t)[c] -= static_cast<float>(mean);
  }
  return out;
}

HeadRelevance::HeadRelevance(const Model& model, std::span<const int32_t> ids, int window, ThreadPool& pool, const Progress& progress)
    : model_(model), ids_(ids), window_(window), pool_(pool), progress_(progress) {
  const ModelConfig& config = model.config();
  heads_.resize(static_cast<size_t>(config.layers) * static_cast<size_t>(config.heads));
  atPoints_.resize(2 * static_cast<size_t>(config.layers) + 1);
  takenBehind_.resize(atPoints_.size());
}

HeadRelevance::Norm HeadRelevance::normOf(TensorRole weight, TensorRole bias, int layer) const {
  const auto decoded = [&](TensorRole role) {
    std::vector<float> out;
    if (const MasterTensor* tensor = model_.find(role, layer)) {
      out.resize(static_cast<size_t>(tensor->cols));
      Model::decodeRows(*tensor, 0, 1, out.data());
    }
    return out;
  };
  return {decoded(weight), decoded(bias)};
}

void HeadRelevance::takeStream(int point, const float* x, int cols, int tokens) {
  const auto at = static_cast<size_t>(point);
  CHECK(at < atPoints_.size() && (point == 0 || at == stream_.size()), point, stream_.size());
  if (point == 0) stream_.clear();
  PaddedRows& now = stream_.emplace_back(tokens, cols);
  for (int t = 0; t < tokens; ++t) std::copy_n(x + int64_t{t} * cols, cols, now.row(t));
  if (stream_.size() < atPoints_.size()) return;
  if (!progress_.stopped()) goBack();
  begin_ += static_cast<size_t>(window_);
}

PaddedRows HeadRelevance::explainLogits(double* taken) {
  const ModelConfig& config = model_.config();
  const MasterTensor* head = model_.find(TensorRole::head);
  if (!head) head = model_.find(TensorRole::tokenEmbedding);
  const PaddedRows& last = stream_.back();
  const Norm norm = normOf(TensorRole::outputNorm, TensorRole::outputNormBias, -1);
  const PaddedRows read = norm.apply(config, last);
  PaddedRows dy(last.rows, last.cols);
  for (int t = 0; t < last.rows; ++t) {
    const size_t next = begin_ + static_cast<size_t>(t) + 1;
    if (next < ids_.size() && t + 1 < last.rows) Model::decodeRows(*head, ids_[next], 1, dy.row(t));
  }
  explained_ += along(read, dy);
  return norm.back(config, last, dy, taken);
}

void HeadRelevance::goBack() {
  const ModelConfig& config = model_.config();
  double taken = 0;
  PaddedRows d = explainLogits(&taken);
  const auto note = [&](int point) {
    atPoints_[static_cast<size_t>(point)] += along(stream_[static_cast<size_t>(point)], d);
    takenBehind_[static_cast<size_t>(point)] += taken;
  };
  note(2 * config.layers);
  for (int point = 2 * config.layers - 1; point >= 0 && !progress_.stopped(); --point) {
    const int layer = point / 2;
    const bool attention = point % 2 == 0;
    const Norm norm = attention ? normOf(TensorRole::attnNorm, TensorRole::attnNormBias, layer) : normOf(TensorRole::ffnNorm, TensorRole::ffnNormBias, layer);
    const PaddedRows& x = stream_[static_cast<size_t>(point)];
    DenseBlock block(model_, layer, attention ? BlockPart::attention : BlockPart::ffn, pool_);
    block.forward(norm.apply(config, x));
    const PaddedRows dx = norm.back(config, x, block.relevance(d, &taken, heads_.data() + static_cast<size_t>(layer) * static_cast<size_t>(config.heads)), &taken);
    for (size_t i = 0; i < d.values.size(); ++i) d.values[i] += dx.values[i];
    note(point);
  }
}

std::span<const double> HeadRelevance::of(int layer) const {
  const auto heads = static_cast<size_t>(model_.config().heads);
  return {heads_.data() + static_cast<size_t>(layer) * heads, heads};
}

bool HeadRelevance::sound() const {
  return std::all_of(heads_.begin(), heads_.end(), [](double x) { return std::isfinite(x); });
}

}  // namespace winnow
