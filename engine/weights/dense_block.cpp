// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/dense_block.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numbers>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"

namespace winnow {
namespace {

PaddedRows transposed(const PaddedRows& a) {
  PaddedRows out(a.cols, a.rows);
  for (int r = 0; r < a.rows; ++r)
    for (int c = 0; c < a.cols; ++c) out.row(c)[r] = a.row(r)[c];
  return out;
}

PaddedRows headOf(const PaddedRows& x, int head, int width) {
  PaddedRows out(x.rows, width);
  for (int t = 0; t < x.rows; ++t) std::copy_n(x.row(t) + head * width, width, out.row(t));
  return out;
}

void addHead(const PaddedRows& from, int head, PaddedRows& to) {
  for (int t = 0; t < from.rows; ++t)
    for (int c = 0; c < from.cols; ++c) to.row(t)[head * from.cols + c] += from.row(t)[c];
}

struct Activated {
  float value, slope;
};
Activated activate(Activation kind, float g) {
  if (kind == Activation::silu) {
    const float s = 1 / (1 + std::exp(-g));
    return {g * s, s * (1 + g * (1 - s))};
  }
  if (kind == Activation::geluTanh) {
    const float c = 0.7978845608f, t = std::tanh(c * (g + 0.044715f * g * g * g));
    return {0.5f * g * (1 + t), 0.5f * (1 + t) + 0.5f * g * (1 - t * t) * c * (1 + 3 * 0.044715f * g * g)};
  }
  const float below = 0.5f * (1 + std::erf(g / std::numbers::sqrt2_v<float>));
  return {g * below, below + g * std::exp(-g * g / 2) * 0.3989422804f};
}

}  // namespace

DenseBlock::DenseBlock(const Model& model, int layer, BlockPart part, ThreadPool& pool)
    : model_(model), config_(model.config()), layer_(layer), part_(part), pool_(pool) {
  if (part == BlockPart::ffn) {
    if (config_.gatedFfn) load(TensorRole::gate, TensorRole::gateBias);
    load(TensorRole::up, TensorRole::upBias);
    load(TensorRole::down, TensorRole::downBias);
    return;
  }
  load(TensorRole::q, TensorRole::qBias);
  load(TensorRole::k, TensorRole::kBias);
  load(TensorRole::v, TensorRole::vBias);
  load(TensorRole::o, TensorRole::oBias);
  loadVector(TensorRole::qNorm);
  loadVector(TensorRole::kNorm);
}

void DenseBlock::load(TensorRole role, TensorRole bias) {
  const MasterTensor* tensor = model_.find(role, layer_);
  CHECK(tensor, tensorRoleName(role), layer_);
  PaddedRows rows(static_cast<int>(tensor->rows), static_cast<int>(tensor->cols));
  constexpr int kBand = 16;
  std::vector<float> decoded(static_cast<size_t>(kBand) * static_cast<size_t>(rows.cols));
  for (int r = 0; r < rows.rows; r += kBand) {
    const int count = std::min(kBand, rows.rows - r);
    Model::decodeRows(*tensor, r, count, decoded.data());
    for (int i = 0; i < count; ++i) std::copy_n(decoded.data() + int64_t{i} * rows.cols, rows.cols, rows.row(r + i));
  }
  weights_[role] = std::move(rows);
  loadVector(bias);
}

void DenseBlock::loadVector(TensorRole role) {
  const MasterTensor* tensor = model_.find(role, layer_);
  if (!tensor) return;
  vectors_[role].resize(static_cast<size_t>(tensor->cols));
  Model::decodeRows(*tensor, 0, 1, vectors_[role].data());
}

const std::vector<float>* DenseBlock::vector(TensorRole role) const {
  const auto found = vectors_.find(role);
  return found == vectors_.end() ? nullptr : &found->second;
}

// a [m, k] times b [k, n].
PaddedRows DenseBlock::times(const PaddedRows& a, const PaddedRows& b) const {
  CHECK(a.cols == b.rows, a.cols, b.rows);
  PaddedRows out(a.rows, b.cols);
  constexpr int kBand = 16;
  std::atomic<int> next{0};
  pool_.run([&](int, int) {
    for (int first; (first = next.fetch_add(kBand)) < a.rows;)
      cpu::bestKernels().smallProduct(a.row(first), a.stride(), b.values.data(), b.stride(), std::min(kBand, a.rows - first), a.cols, out.stride(),
                                      out.row(first), out.stride(), false);
  });
  return out;
}

PaddedRows DenseBlock::linear(const PaddedRows& x, TensorRole role, TensorRole bias) const {
  PaddedRows y = times(x, transposed(weights_.at(role)));
  if (const std::vector<float>* add = vector(bias))
    for (int t = 0; t < y.rows; ++t)
      for (int c = 0; c < y.cols; ++c) y.row(t)[c] += (*add)[static_cast<size_t>(c)];
  return y;
}

// Pairs (c, c + half) of every head by position times frequency; direction -1 undoes it.
void DenseBlock::rotate(PaddedRows& x, int heads, float direction) const {
  if (config_.position != PositionKind::rope) return;
  const std::vector<float> frequencies = ropeFrequencies(config_.rope);
  const int half = config_.rope.dims / 2;
  for (int t = 0; t < x.rows; ++t)
    for (int c = 0; c < half; ++c) {
      const float angle = static_cast<float>(t) * frequencies[static_cast<size_t>(c)], cosine = std::cos(angle), sine = direction * std::sin(angle);
      for (int h = 0; h < heads; ++h) {
        float* pair = x.row(t) + h * config_.headDim + c;
        const float a = pair[0], b = pair[half];
        pair[0] = a * cosine - b * sine;
        pair[half] = a * sine + b * cosine;
      }
    }
}

void DenseBlock::norm(PaddedRows& x, int heads, const std::vector<float>& weight) const {
  const int n = config_.headDim;
  for (int t = 0; t < x.rows; ++t)
    for (int h = 0; h < heads; ++h) {
      float* head = x.row(t) + h * n;
      double sum = 0;
      for (int c = 0; c < n; ++c) sum += static_cast<double>(head[c]) * head[c];
      const auto factor = static_cast<float>(1 / std::sqrt(sum / n + static_cast<double>(config_.normEps)));
      for (int c = 0; c < n; ++c) head[c] *= factor * weight[static_cast<size_t>(c)];
    }
}

void DenseBlock::normBack(PaddedRows& dx, int heads, const std::vector<float>& weight, const PaddedRows& before) const {
  const int n = config_.headDim;
  for (int t = 0; t < dx.rows; ++t)
    for (int h = 0; h < heads; ++h) {
      float* d = dx.row(t) + h * n;
      const float* x = before.row(t) + h * n;
      double sum = 0, along = 0;
      for (int c = 0; c < n; ++c) {
        d[c] *= weight[static_cast<size_t>(c)];
        sum += static_cast<double>(x[c]) * x[c];
        along += static_cast<double>(x[c]) * d[c];
      }
      const double factor = 1 / std::sqrt(sum / n + static_cast<double>(config_.normEps));
      for (int c = 0; c < n; ++c) d[c] = static_cast<float>(factor * (d[c] - factor * factor * along / n * x[c]));
    }
}

PaddedRows DenseBlock::probabilities(int head) const {
  const int n = config_.headDim;
  PaddedRows scores = times(headOf(q_, head, n), transposed(headOf(k_, head / config_.groupSize(), n)));
  const float scale = 1 / std::sqrt(static_cast<float>(n));
  for (int t = 0; t < scores.rows; ++t) {
    float* row = scores.row(t);
    const int begin = config_.slidingWindow > 0 ? std::max(0, t - config_.slidingWindow + 1) : 0;
    const float largest = *std::max_element(row + begin, row + t + 1);
    double sum = 0;
    for (int s = begin; s <= t; ++s) sum += static_cast<double>(row[s] = std::exp(scale * (row[s] - largest)));
    for (int s = 0; s < scores.cols; ++s) row[s] = s < begin || s > t ? 0 : static_cast<float>(row[s] / sum);
  }
  return scores;
}

PaddedRows DenseBlock::attend() const {
  PaddedRows z(x_.rows, config_.qRows());
  for (int h = 0; h < config_.heads; ++h) addHead(times(probabilities(h), headOf(v_, h / config_.groupSize(), config_.headDim)), h, z);
  return z;
}

void DenseBlock::attendBack(const PaddedRows& dz, PaddedRows& dq, PaddedRows& dk, PaddedRows& dv) const {
  const int n = config_.headDim;
  const float scale = 1 / std::sqrt(static_cast<float>(n));
  for (int h = 0; h < config_.heads; ++h) {
    const int group = h / config_.groupSize();
    const PaddedRows a = probabilities(h), dzh = headOf(dz, h, n);
    addHead(times(transposed(a), dzh), group, dv);
    PaddedRows ds = times(dzh, transposed(headOf(v_, group, n)));
    for (int t = 0; t < ds.rows; ++t) {
      float* row = ds.row(t);
      double along = 0;
      for (int s = 0; s <= t; ++s) along += static_cast<double>(row[s]) * a.row(t)[s];
      for (int s = 0; s < ds.cols; ++s) row[s] = scale * a.row(t)[s] * (row[s] - static_cast<float>(along));
    }
    addHead(times(ds, headOf(k_, group, n)), h, dq);
    addHead(times(transposed(ds), headOf(q_, h, n)), group, dk);
  }
}

PaddedRows DenseBlock::forward(const PaddedRows& x) {
  x_ = x;
  if (part_ == BlockPart::attention) {
    q_ = linear(x, TensorRole::q, TensorRole::qBias);
    k_ = linear(x, TensorRole::k, TensorRole::kBias);
    v_ = linear(x, TensorRole::v, TensorRole::vBias);
    qBefore_ = q_;
    kBefore_ = k_;
    if (const auto* weight = vector(TensorRole::qNorm)) norm(q_, config_.heads, *weight);
    if (const auto* weight = vector(TensorRole::kNorm)) norm(k_, config_.kvHeads, *weight);
    rotate(q_, config_.heads, 1);
    rotate(k_, config_.kvHeads, 1);
    inner_ = attend();
    return linear(inner_, TensorRole::o, TensorRole::oBias);
  }
  if (config_.gatedFfn) gate_ = linear(x, TensorRole::gate, TensorRole::gateBias);
  up_ = linear(x, TensorRole::up, TensorRole::upBias);
  inner_ = PaddedRows(x.rows, up_.cols);
  for (size_t i = 0; i < up_.values.size(); ++i)
    inner_.values[i] = config_.gatedFfn ? activate(config_.activation, gate_.values[i]).value * up_.values[i] : activate(config_.activation, up_.values[i]).value;
  return linear(inner_, TensorRole::down, TensorRole::downBias);
}

std::map<TensorRole, PaddedRows> DenseBlock::gradients(const PaddedRows& dy) const { return part_ == BlockPart::attention ? attentionGradients(dy) : ffnGradients(dy); }

std::map<TensorRole, PaddedRows> DenseBlock::attentionGradients(const PaddedRows& dy) const {
  std::map<TensorRole, PaddedRows> out;
  out[TensorRole::o] = times(transposed(dy), inner_);
  const PaddedRows dz = times(dy, weights_.at(TensorRole::o));
  PaddedRows dq(x_.rows, config_.qRows()), dk(x_.rows, config_.kvRows()), dv(x_.rows, config_.kvRows());
  attendBack(dz, dq, dk, dv);
  rotate(dq, config_.heads, -1);
  rotate(dk, config_.kvHeads, -1);
  if (const auto* weight = vector(TensorRole::qNorm)) normBack(dq, config_.heads, *weight, qBefore_);
  if (const auto* weight = vector(TensorRole::kNorm)) normBack(dk, config_.kvHeads, *weight, kBefore_);
  out[TensorRole::q] = times(transposed(dq), x_);
  out[TensorRole::k] = times(transposed(dk), x_);
  out[TensorRole::v] = times(transposed(dv), x_);
  return out;
}

std::map<TensorRole, PaddedRows> DenseBlock::ffnGradients(const PaddedRows& dy) const {
  std::map<TensorRole, PaddedRows> out;
  out[TensorRole::down] = times(transposed(dy), inner_);
  PaddedRows du = times(dy, weights_.at(TensorRole::down)), dg(x_.rows, du.cols);
  for (size_t i = 0; i < du.values.size(); ++i) {
    const Activated a = activate(config_.activation, config_.gatedFfn ? gate_.values[i] : up_.values[i]);
    dg.values[i] = config_.gatedFfn ? du.values[i] * up_.values[i] * a.slope : 0;
    du.values[i] *= config_.gatedFfn ? a.value : a.slope;
  }
  out[TensorRole::up] = times(transposed(du), x_);
  if (config_.gatedFfn) out[TensorRole::gate] = times(transposed(dg), x_);
  return out;
}

// --- relevance -----------------------------------------------------------------------------------------------------------

double DenseBlock::takenBy(TensorRole bias, const PaddedRows& dy) const {
  double sum = 0;
  if (const std::vector<float>* add = vector(bias))
    for (int t = 0; t < dy.rows; ++t)
      for (int c = 0; c < dy.cols; ++c) sum += static_cast<double>((*add)[static_cast<size_t>(c)]) * dy.row(t)[c];
  return sum;
}

void DenseBlock::normRelevance(PaddedRows& dx, int heads, const std::vector<float>& weight, const PaddedRows& before) const {
  const int n = config_.headDim;
  for (int t = 0; t < dx.rows; ++t)
    for (int h = 0; h < heads; ++h) {
      float* d = dx.row(t) + h * n;
      const float* x = before.row(t) + h * n;
      double sum = 0;
      for (int c = 0; c < n; ++c) sum += static_cast<double>(x[c]) * x[c];
      const auto factor = static_cast<float>(1 / std::sqrt(sum / n + static_cast<double>(config_.normEps)));
      for (int c = 0; c < n; ++c) d[c] *= factor * weight[static_cast<size_t>(c)];
    }
}

// z = A v and s = scale q k: each factor has half. A = softmax(s) has its true derivative, which passes on less or more than it gets.
void DenseBlock::headRelevance(int head, const PaddedRows& dz, PaddedRows& dq, PaddedRows& dk, PaddedRows& dv, double* taken) const {
  const int n = config_.headDim, group = head / config_.groupSize();
  const float scale = 1 / std::sqrt(static_cast<float>(n));
  const PaddedRows a = probabilities(head), q = headOf(q_, head, n);
  PaddedRows half = headOf(dz, head, n);
  for (float& value : half.values) value /= 2;
  addHead(times(transposed(a), half), group, dv);
  PaddedRows ds = times(half, transposed(headOf(v_, group, n)));
  for (int t = 0; t < ds.rows; ++t) {
    float* row = ds.row(t);
    double along = 0;
    for (int s = 0; s <= t; ++s) along += static_cast<double>(row[s]) * a.row(t)[s];
    for (int s = 0; s < ds.cols; ++s) row[s] = scale * a.row(t)[s] * (row[s] - static_cast<float>(along));
    *taken += along;
  }
  PaddedRows byQ = times(ds, headOf(k_, group, n)), byK = times(transposed(ds), q);
  for (int t = 0; t < q.rows; ++t)
    for (int c = 0; c < n; ++c) *taken -= static_cast<double>(q.row(t)[c]) * byQ.row(t)[c];
  for (PaddedRows* each : {&byQ, &byK})
    for (float& value : each->values) value /= 2;
  addHead(byQ, head, dq);
  addHead(byK, group, dk);
}

PaddedRows DenseBlock::relevance(const PaddedRows& dy, double* taken, double* heads) const {
  return part_ == BlockPart::attention ? attentionRelevance(dy, taken, heads) : ffnRelevance(dy, taken);
}

PaddedRows DenseBlock::attentionRelevance(const PaddedRows& dy, double* taken, double* heads) const {
  *taken += takenBy(TensorRole::oBias, dy);
  const PaddedRows dz = times(dy, weights_.at(TensorRole::o));
  PaddedRows dq(x_.rows, config_.qRows()), dk(x_.rows, config_.kvRows()), dv(x_.rows, config_.kvRows());
  for (int h = 0; h < config_.heads; ++h) {
    for (int t = 0; t < dz.rows; ++t)
      for (int c = h * config_.headDim; c < (h + 1) * config_.headDim; ++c) heads[h] += static_cast<double>(inner_.row(t)[c]) * dz.row(t)[c];
    headRelevance(h, dz, dq, dk, dv, taken);
  }
  rotate(dq, config_.heads, -1);
  rotate(dk, config_.kvHeads, -1);
  if (const auto* weight = vector(TensorRole::qNorm)) normRelevance(dq, config_.heads, *weight, qBefore_);
  if (const auto* weight = vector(TensorRole::kNorm)) normRelevance(dk, config_.kvHeads, *weight, kBefore_);
  *taken += takenBy(TensorRole::qBias, dq) + takenBy(TensorRole::kBias, dk) + takenBy(TensorRole::vBias, dv);
  PaddedRows dx = times(dq, weights_.at(TensorRole::q));
  for (const PaddedRows& more : {times(dk, weights_.at(TensorRole::k)), times(dv, weights_.at(TensorRole::v))})
    for (size_t i = 0; i < dx.values.size(); ++i) dx.values[i] += more.values[i];
  return dx;
}

PaddedRows DenseBlock::ffnRelevance(const PaddedRows& dy, double* taken) const {
  *taken += takenBy(TensorRole::downBias, dy);
  PaddedRows du = times(dy, weights_.at(TensorRole::down)), dg(x_.rows, du.cols);
  for (size_t i = 0; i < du.values.size(); ++i) {
    const float g = config_.gatedFfn ? gate_.values[i] : up_.values[i], value = activate(config_.activation, g).value;
    const float factor = std::fabs(g) > 1e-6f ? value / g : 0.5f;  // of silu and gelu at 0
    dg.values[i] = config_.gatedFfn ? du.values[i] * up_.values[i] * factor / 2 : 0;
    du.values[i] *= config_.gatedFfn ? value / 2 : factor;
  }
  *taken += takenBy(TensorRole::upBias, du);
  PaddedRows dx = times(du, weights_.at(TensorRole::up));
  if (!config_.gatedFfn) return dx;
  *taken += takenBy(TensorRole::gateBias, dg);
  const PaddedRows more = times(dg, weights_.at(TensorRole::gate));
  for (size_t i = 0; i < dx.values.size(); ++i) dx.values[i] += more.values[i];
  return dx;
}

}  // namespace winnow
