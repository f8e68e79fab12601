// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/block_gradients.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"

namespace winnow {

BlockGradients::BlockGradients(const Model& model, LayerRange layers, Ledger& ledger, ThreadPool& pool, const Progress& progress)
    : model_(model), layers_(layers), pool_(pool), progress_(progress) {
  for (const MasterTensor& tensor : model.tensors())
    if (layers.has(tensor.layer) && isMatrix(tensor.role))
      sums_.emplace(std::pair{tensor.layer, tensor.role}, Buffer(ledger, MemoryTag::calibration, static_cast<size_t>(tensor.rows * tensor.cols) * sizeof(float)));
}

int64_t BlockGradients::bytes(const Model& model, int layer) {
  int64_t sum = 0;
  for (const MasterTensor& tensor : model.tensors())
    if (tensor.layer == layer && isMatrix(tensor.role)) sum += tensor.rows * tensor.cols * static_cast<int64_t>(sizeof(float));
  return sum;
}

void BlockGradients::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  if (!layers_.has(layer) || (input != LinearInput::attention && input != LinearInput::ffn)) return;
  input_ = PaddedRows(tokens, cols);
  for (int t = 0; t < tokens; ++t) std::copy_n(x + t * stride, cols, input_.row(t));
}

// Points come in order: where a block ends the stream is what it was plus what the block added.
void BlockGradients::takeStream(int point, const float* x, int cols, int tokens) {
  if (point < 2 * layers_.begin || point > 2 * layers_.end) return;
  PaddedRows now(tokens, cols);
  for (int t = 0; t < tokens; ++t) std::copy_n(x + int64_t{t} * cols, cols, now.row(t));
  if (point == 2 * layers_.begin) {
    ++windows_;
  } else if (!progress_.stopped()) {
    CHECK(before_.rows == tokens && input_.rows == tokens, point, tokens);
    PaddedRows added = now;
    for (size_t i = 0; i < added.values.size(); ++i) added.values[i] -= before_.values[i];
    add((point - 1) / 2, point % 2 == 1 ? BlockPart::attention : BlockPart::ffn, added);
  }
  before_ = std::move(now);
}

void BlockGradients::add(int layer, BlockPart part, const PaddedRows& added) {
  DenseBlock block(model_, layer, part, pool_);
  PaddedRows dy = block.forward(input_);
  const float scale = 2.0f / (static_cast<float>(dy.rows) * static_cast<float>(dy.cols));
  for (size_t i = 0; i < dy.values.size(); ++i) dy.values[i] = scale * (dy.values[i] - added.values[i]);
  for (const auto& [role, gradient] : block.gradients(dy)) {
    float* sums = sums_.at({layer, role}).as<float>();
    for (int r = 0; r < gradient.rows; ++r)
      for (int c = 0; c < gradient.cols; ++c) sums[int64_t{r} * gradient.cols + c] += gradient.row(r)[c] * gradient.row(r)[c];
  }
}

void BlockGradients::finish() {
  input_ = before_ = PaddedRows();
  for (auto& [place, buffer] : sums_)
    for (size_t i = 0; i < buffer.bytes() / sizeof(float); ++i) buffer.as<float>()[i] /= static_cast<float>(std::max(windows_, 1));
}

Status BlockGradients::sound() const {
  for (const auto& [place, buffer] : sums_) {
    const auto values = meanSquares(place.second, place.first);
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      return Error{ErrorCode::badInput, "On the calibration text the gradients of the pruned model are NaN or infinite: first those of layer " +
                                            std::to_string(place.first) + ", " + std::string(tensorRoleName(place.second)) + ".",
                   "Choose another calibration text, or a lower prune.ratio."};
  }
  return Done{};
}

std::span<const float> BlockGradients::meanSquares(TensorRole role, int layer) const {
  const Buffer& buffer = sums_.at({layer, role});
  return {buffer.as<float>(), buffer.bytes() / sizeof(float)};
}

Result<std::span<const float>> GradientsByLayer::of(const MasterTensor& tensor) {
  if (!held_ || !held_->layers().has(tensor.layer)) {
    held_.reset();
    LayerRange range{tensor.layer, tensor.layer + 1};
    for (int64_t bytes = BlockGradients::bytes(model_, tensor.layer); range.end < model_.config().layers; ++range.end)
      if ((bytes += BlockGradients::bytes(model_, range.end)) > mostBytes_) break;
    auto measured = measure_(range);
    if (!measured) return measured.error();
    held_ = *measured;
  }
  return held_->meanSquares(tensor.role, tensor.layer);
}

}  // namespace winnow
