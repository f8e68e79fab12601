// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/slice.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/weights/dense_block.h"
#include "engine/weights/symmetric_eigen.h"

namespace winnow {
namespace {

constexpr int kBand = 16;
constexpr int64_t kBlock = 64;  // of products in double

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// out [rows, bStride] = a [rows, terms] b [terms, bStride], by bands of rows.
void product(const float* a, int64_t aStride, const float* b, int64_t bStride, int64_t rows, int terms, float* out, ThreadPool& pool) {
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    for (int64_t first; (first = next.fetch_add(kBand)) < rows;)
      cpu::bestKernels().smallProduct(a + first * aStride, aStride, b, bStride, static_cast<int>(std::min<int64_t>(kBand, rows - first)), terms, static_cast<int>(bStride),
                                      out + first * bStride, bStride, false);
  });
}

// The directions of a point as columns, f32 [hidden, padded(width)].
std::vector<float> asColumns(const StreamBases& bases, int point) {
  const auto hidden = static_cast<int64_t>(bases.hidden()), width = static_cast<int64_t>(bases.width()), stride = padded(width);
  std::vector<float> out(static_cast<size_t>(hidden * stride));
  const float* rows = bases.directions(point);
  for (int64_t i = 0; i < width; ++i)
    for (int64_t c = 0; c < hidden; ++c) out[static_cast<size_t>(c * stride + i)] = rows[i * hidden + c];
  return out;
}

Error cancelled() { return {ErrorCode::cancelled, "Measuring the residual stream was cancelled.", ""}; }

std::vector<float> decodedVector(const Model& model, TensorRole role, int layer) {
  const MasterTensor* tensor = model.find(role, layer);
  std::vector<float> out(tensor ? static_cast<size_t>(tensor->cols) : 0);
  if (tensor) Model::decodeRows(*tensor, 0, 1, out.data());
  return out;
}

}  // namespace

std::optional<std::string> cannotSlice(const ModelConfig& model) {
  if (model.norm == NormKind::layer) return "its norms subtract a mean, which does not commute with turning the stream: only models with RMSNorm are sliced.";
  if (model.hidden < 16) return "a residual stream " + std::to_string(model.hidden) + " wide is too narrow to leave directions out.";
  return std::nullopt;
}

int slicedWidth(int hidden, double removed) {
  const int step = hidden >= 512 ? 32 : 8;
  if (removed <= 0) return hidden;
  const int most = (hidden - 1) / step;  // steps, of which one less than all
  return step * std::clamp(static_cast<int>(std::lround((1 - removed) * hidden / step)), 1, std::max(most, 1));
}

ModelConfig slicedShape(ModelConfig model, double removed) {
  model.hidden = slicedWidth(model.hidden, removed);
  return model;
}

StreamBases::StreamBases(Ledger& ledger, const ModelConfig& model, int width, std::string key)
    : layers_(model.layers), hidden_(model.hidden), width_(width), key_(std::move(key)),
      directions_(ledger, MemoryTag::calibration, static_cast<size_t>(2 * model.layers + 1) * static_cast<size_t>(width) * static_cast<size_t>(model.hidden) * sizeof(float)) {}

// The stream of a text through the model, which is sliced point by point as it goes.
class StreamMeter {
 public:
  StreamMeter(const Model& model, std::span<const int32_t> ids, int window, StreamBases& out, Ledger& ledger, ThreadPool& pool)
      : model_(model), config_(model.config()), tokens_(static_cast<int>(ids.size())), window_(window), stride_(padded(config_.hidden)), out_(out), pool_(pool),
        stream_(ledger, MemoryTag::calibration, static_cast<size_t>(tokens_) * static_cast<size_t>(stride_) * sizeof(float)) {
    out_.energies_.resize(static_cast<size_t>(out_.points()));
    out_.lost_.resize(out_.energies_.size());
    const MasterTensor* embedding = model.find(TensorRole::tokenEmbedding);
    for (int t = 0; t < tokens_; ++t) Model::decodeRows(*embedding, ids[static_cast<size_t>(t)], 1, row(t));
  }

  Status measure(int point, const Progress& progress) {
    const int n = config_.hidden;
    const std::vector<double> moments = secondMoments();
    for (int i = 0; i < n; ++i)
      if (!std::isfinite(moments[static_cast<size_t>(i) * static_cast<size_t>(n) + static_cast<size_t>(i)]))
        return Error{ErrorCode::badInput, "On the calibration text the model computes NaN or infinity: first in the residual stream at layer " + std::to_string(point / 2) + ".",
                     "Choose another calibration text."};
    const Eigen eigen = largeSymmetricEigen(moments, n, pool_, progress);
    if (eigen.values.empty() || progress.stopped()) return cancelled();
    auto* directions = const_cast<float*>(out_.directions(point));
    for (size_t i = 0; i < static_cast<size_t>(out_.width()) * static_cast<size_t>(n); ++i) directions[i] = static_cast<float>(eigen.vectors[i]);
    out_.energies_[static_cast<size_t>(point)] = eigen.values;
    project(point);
    return Done{};
  }

  // What the part behind a point adds.
  bool advance(int point, const Progress& progress) {
    const int layer = point / 2, n = config_.hidden;
    const bool attention = point % 2 == 0;
    const std::vector<float> gain = decodedVector(model_, attention ? TensorRole::attnNorm : TensorRole::ffnNorm, layer);
    DenseBlock block(model_, layer, attention ? BlockPart::attention : BlockPart::ffn, pool_);
    for (int first = 0; first < tokens_; first += window_) {
      if (progress.stopped()) return false;
      PaddedRows x(std::min(window_, tokens_ - first), n);
      for (int t = 0; t < x.rows; ++t) {
        const float* from = row(first + t);
        double squares = 0;
        for (int c = 0; c < n; ++c) squares += double{from[c]} * double{from[c]};
        const auto factor = static_cast<float>(1 / std::sqrt(squares / n + double{config_.normEps}));
        for (int c = 0; c < n; ++c) x.row(t)[c] = factor * from[c] * gain[static_cast<size_t>(c)];
      }
      const PaddedRows added = block.forward(x);
      for (int t = 0; t < added.rows; ++t)
        for (int c = 0; c < n; ++c) row(first + t)[c] += added.row(t)[c];
    }
    return true;
  }

 private:
  float* row(int t) const { return stream_.as<float>() + int64_t{t} * stride_; }

  // X^T X in double, [hidden, hidden], of the stream itself, as the paper's program has it; its text takes what the norm makes of it, where every token
  // weighs the same.
  std::vector<double> secondMoments() const {
    const int64_t n = config_.hidden, blocks = (n + kBlock - 1) / kBlock, wide = blocks * kBlock;
    std::vector<double> sums(static_cast<size_t>(wide * wide)), piece(static_cast<size_t>(kBlock * wide));
    for (int first = 0; first < tokens_; first += kBlock) {
      const int count = std::min<int>(kBlock, tokens_ - first);
      for (int64_t t = 0; t < count; ++t)
        for (int64_t c = 0; c < n; ++c) piece[static_cast<size_t>(t * wide + c)] = double{row(first + static_cast<int>(t))[c]};
      std::atomic<int64_t> next{0};
      pool_.run([&](int, int) {
        for (int64_t item; (item = next.fetch_add(1)) < blocks * blocks;) {
          const int64_t r = item / blocks * kBlock, c = item % blocks * kBlock;
          if (c >= r) cpu::bestKernels().subtractProduct(piece.data() + r, 1, wide, piece.data() + c, wide, count, sums.data() + r * wide + c, wide);
        }
      });
    }
    std::vector<double> out(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i; j < n; ++j) out[static_cast<size_t>(i * n + j)] = out[static_cast<size_t>(j * n + i)] = -sums[static_cast<size_t>(i * wide + j)];
    return out;
  }

  // The stream becomes what is left of it: x Q^T Q, directions as rows of Q.
  void project(int point) {
    const int n = config_.hidden, width = out_.width();
    if (width == n) return;
    const int64_t narrow = padded(width);
    const std::vector<float> columns = asColumns(out_, point);
    std::vector<float> rows(static_cast<size_t>(width) * static_cast<size_t>(stride_));
    for (int i = 0; i < width; ++i) std::copy_n(out_.directions(point) + int64_t{i} * n, n, rows.data() + int64_t{i} * stride_);
    std::vector<float> seen(static_cast<size_t>(window_) * static_cast<size_t>(narrow)), left(static_cast<size_t>(window_) * static_cast<size_t>(stride_));
    double lost = 0;
    for (int first = 0; first < tokens_; first += window_) {
      const int count = std::min(window_, tokens_ - first);
      product(row(first), stride_, columns.data(), narrow, count, n, seen.data(), pool_);
      product(seen.data(), narrow, rows.data(), stride_, count, width, left.data(), pool_);
      for (int64_t i = 0; i < count * stride_; ++i) {
        const double gone = double{row(first)[i]} - double{left[static_cast<size_t>(i)]};
        lost += gone * gone;
        row(first)[i] = left[static_cast<size_t>(i)];
      }
    }
    out_.lost_[static_cast<size_t>(point)] = lost;
  }

  const Model& model_;
  const ModelConfig& config_;
  const int tokens_, window_;
  const int64_t stride_;
  StreamBases& out_;
  ThreadPool& pool_;
  Buffer stream_;  // f32 [tokens, stride], zero beyond hidden
};

Result<Bases> measureStream(const Model& model, int width, std::string key, std::span<const int32_t> ids, int window, Ledger& ledger, ThreadPool& pool,
                            const Progress& progress) {
  CHECK(!cannotSlice(model.config()) && width > 0 && width <= model.config().hidden && window > 0, width, window);
  auto bases = std::make_shared<StreamBases>(ledger, model.config(), width, std::move(key));
  StreamMeter meter(model, ids, window, *bases, ledger, pool);
  for (int point = 0; point < bases->points(); ++point) {
    progress(static_cast<double>(point) / bases->points(), "measuring the residual stream");
    if (Status measured = meter.measure(point, progress); !measured) return measured.error();
    if (point + 1 < bases->points() && !meter.advance(point, progress)) return cancelled();
  }
  return Bases(std::move(bases));
}

// --- tensors -------------------------------------------------------------------------------------------------------------

namespace {

enum class Turn : uint8_t { none, inputs, outputs, norm };

struct Place {
  Turn turn = Turn::none;
  int after = 0;                        // points behind the beginning of the layer; of a tensor of no layer: 0 the first point, 1 the last
  TensorRole gain = TensorRole::count;  // of the norm that goes into the columns
};

Place placeOf(TensorRole role) {
  switch (role) {
    case TensorRole::tokenEmbedding: return {Turn::inputs, 0};
    case TensorRole::head: return {Turn::inputs, 1, TensorRole::outputNorm};
    case TensorRole::q:
    case TensorRole::k:
    case TensorRole::v: return {Turn::inputs, 0, TensorRole::attnNorm};
    case TensorRole::gate:
    case TensorRole::up: return {Turn::inputs, 1, TensorRole::ffnNorm};
    case TensorRole::o: return {Turn::outputs, 1};
    case TensorRole::down: return {Turn::outputs, 2};
    case TensorRole::oBias: return {Turn::inputs, 1};  // a row of the stream
    case TensorRole::downBias: return {Turn::inputs, 2};
    case TensorRole::attnNorm:
    case TensorRole::ffnNorm:
    case TensorRole::outputNorm: return {Turn::norm};
    default: return {};
  }
}

int pointOf(const MasterTensor& tensor, const StreamBases& bases) {
  const int after = placeOf(tensor.role).after;
  return tensor.layer >= 0 ? 2 * tensor.layer + after : after == 0 ? 0 : bases.points() - 1;
}

}  // namespace

bool slices(TensorRole role) { return placeOf(role).turn != Turn::none; }

MasterTensor slicedShape(MasterTensor whole, int width) {
  CHECK(slices(whole.role), whole.fileName);
  (placeOf(whole.role).turn == Turn::outputs ? whole.rows : whole.cols) = width;
  return whole;
}

MasterTensor shortcutShape(const StreamBases& bases, int point) {
  MasterTensor out;
  out.role = point % 2 == 0 ? TensorRole::attnShortcut : TensorRole::ffnShortcut;
  out.layer = point / 2;
  out.fileName = std::string(tensorRoleName(out.role)) + " of layer " + std::to_string(out.layer);
  out.type = DType::f32;
  out.rows = out.cols = bases.width();
  return out;
}

void SlicedTensor::own(const MasterTensor& like) {
  tensor_ = MasterTensor();
  tensor_.role = like.role;
  tensor_.layer = like.layer;
  tensor_.fileName = like.fileName;
  tensor_.type = DType::f32;
  tensor_.rows = like.rows;
  tensor_.cols = like.cols;
  tensor_.storedRowBytes = static_cast<size_t>(like.cols) * sizeof(float);
  values_.resize(static_cast<size_t>(like.rows * like.cols));
  tensor_.data = reinterpret_cast<const std::byte*>(values_.data());
}

// A norm of the narrow stream z divides by the original width, as the rotated one did: the kernels divide by the width there is, which this constant
// and an epsilon as many times larger (WeightSet::normEps) undo: z / sqrt(|z|^2 / d + eps) = sqrt(d / n) z / sqrt(|z|^2 / n + eps d / n).
SlicedTensor::SlicedTensor(const Model& model, const MasterTensor& whole, const StreamBases& bases, ThreadPool& pool) {
  own(slicedShape(whole, bases.width()));
  const Place place = placeOf(whole.role);
  switch (place.turn) {
    case Turn::none: CHECK(false, whole.fileName); break;
    case Turn::norm: std::fill(values_.begin(), values_.end(), static_cast<float>(std::sqrt(static_cast<double>(bases.hidden()) / bases.width()))); break;
    case Turn::outputs: turnOutputs(whole, bases, pointOf(whole, bases), pool); break;
    case Turn::inputs:
      turnInputs(whole, place.gain == TensorRole::count ? std::vector<float>() : decodedVector(model, place.gain, whole.layer), bases, pointOf(whole, bases), pool);
      break;
  }
}

// W diag(gain) Q^T.
void SlicedTensor::turnInputs(const MasterTensor& whole, std::span<const float> gain, const StreamBases& bases, int point, ThreadPool& pool) {
  const int64_t band = whole.transposed ? 8 * kBand : kBand, cols = tensor_.cols, stride = padded(cols);
  const std::vector<float> columns = asColumns(bases, point);
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    std::vector<float> rows(static_cast<size_t>(band * whole.cols)), made(static_cast<size_t>(band * stride));
    for (int64_t first; (first = next.fetch_add(band)) < whole.rows;) {
      const int64_t count = std::min(band, whole.rows - first);
      Model::decodeRows(whole, first, count, rows.data());
      for (int64_t r = 0; r < count && !gain.empty(); ++r)
        for (int64_t c = 0; c < whole.cols; ++c) rows[static_cast<size_t>(r * whole.cols + c)] *= gain[static_cast<size_t>(c)];
      cpu::bestKernels().smallProduct(rows.data(), whole.cols, columns.data(), stride, static_cast<int>(count), static_cast<int>(whole.cols), static_cast<int>(stride),
                                      made.data(), stride, false);
      for (int64_t r = 0; r < count; ++r) std::copy_n(made.data() + r * stride, cols, values_.data() + (first + r) * cols);
    }
  });
}

// Q W.
void SlicedTensor::turnOutputs(const MasterTensor& whole, const StreamBases& bases, int point, ThreadPool& pool) {
  const int64_t stride = padded(whole.cols), cols = whole.cols;
  std::vector<float> rows(static_cast<size_t>(whole.rows * stride)), made(static_cast<size_t>(tensor_.rows * stride));
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(whole.rows, 8 * kBand, thread, threads);
    std::vector<float> decoded(static_cast<size_t>(8 * kBand * cols));
    for (int64_t first = range.begin; first < range.end; first += 8 * kBand) {
      const int64_t count = std::min<int64_t>(8 * kBand, range.end - first);
      Model::decodeRows(whole, first, count, decoded.data());
      for (int64_t r = 0; r < count; ++r) std::copy_n(decoded.data() + r * cols, cols, rows.data() + (first + r) * stride);
    }
  });
  product(bases.directions(point), bases.hidden(), rows.data(), stride, tensor_.rows, bases.hidden(), made.data(), pool);
  for (int64_t r = 0; r < tensor_.rows; ++r) std::copy_n(made.data() + r * stride, cols, values_.data() + r * cols);
}

std::unique_ptr<SlicedTensor> SlicedTensor::shortcut(const StreamBases& bases, int point, ThreadPool& pool) {
  CHECK(point >= 0 && point + 1 < bases.points(), point);
  std::unique_ptr<SlicedTensor> out(new SlicedTensor());
  out->own(shortcutShape(bases, point));
  const int64_t width = bases.width(), stride = padded(width);
  const std::vector<float> before = asColumns(bases, point);
  std::vector<float> made(static_cast<size_t>(width * stride));
  product(bases.directions(point + 1), bases.hidden(), before.data(), stride, width, bases.hidden(), made.data(), pool);
  for (int64_t r = 0; r < width; ++r) std::copy_n(made.data() + r * stride, width, out->values_.data() + r * width);
  return out;
}

}  // namespace winnow
