// SPDX-License-Identifier: GPL-3.0-or-later
// What activation sparsity needs beside the matrices of a set: copies by channel of those that are read in part, and distributions of activations.
#include <new>

#include "engine/core/check.h"
#include "engine/sparsify/method.h"
#include "engine/sparsify/step.h"
#include "engine/weights/store.h"

namespace winnow {
namespace {

enum class Layout : uint8_t { none, rows, columns };

// How a method reads a matrix. Rows of a plain one lie in one piece as they are.
Layout layoutOf(SparsePlace place, TensorRole role, const WeightFormat& format) {
  const bool ffn = role == TensorRole::gate || role == TensorRole::up || role == TensorRole::down;
  if (place == SparsePlace::inputs) return Layout::columns;
  if (!ffn || (place == SparsePlace::gate && role == TensorRole::gate)) return Layout::none;
  return role == TensorRole::down ? Layout::columns : format.storage == Storage::packed ? Layout::rows : Layout::none;
}

std::shared_ptr<const ChannelMajor>* slotOf(ChannelMajorLayer& layer, TensorRole role) {
  switch (role) {
    case TensorRole::q: return &layer.q;
    case TensorRole::k: return &layer.k;
    case TensorRole::v: return &layer.v;
    case TensorRole::o: return &layer.o;
    case TensorRole::gate: return &layer.gate;
    case TensorRole::up: return &layer.up;
    case TensorRole::down: return &layer.down;
    default: return nullptr;
  }
}

Error cancelled() { return {ErrorCode::cancelled, "Preparing the weights was cancelled.", ""}; }

}  // namespace

Result<std::shared_ptr<const SparseWeights>> WeightStore::makeSparse(const WeightTarget& target, const WeightSet& set, const std::vector<std::string>& keys, ThreadPool& pool,
                                                                     const Measurements& measurements, const Progress& progress) {
  const ActivationMethod* method = findActivationMethod(target.activation);
  CHECK(method, target.activation);
  auto sparse = std::make_shared<SparseWeights>();
  sparse->method = method->name;
  sparse->layers.resize(set.layers.size());
  try {
    for (size_t i = 0; i < set.versions.size(); ++i) {
      const MasterTensor& tensor = model_->tensors()[i];
      const Matrix& matrix = set.versions[i]->matrix;
      std::shared_ptr<const ChannelMajor>* slot = tensor.layer < 0 ? nullptr : slotOf(sparse->layers[static_cast<size_t>(tensor.layer)], tensor.role);
      if (!slot || matrix.rows == 0) continue;
      const Layout layout = layoutOf(method->place, tensor.role, matrix.format);
      if (layout == Layout::none) continue;
      progress(static_cast<double>(i) / static_cast<double>(set.versions.size()), "laying out weights by channel");
      const std::pair<size_t, std::string> id{i, keys[i] + (layout == Layout::rows ? " by rows" : " by columns")};
      {
        std::scoped_lock lock(mutex_);
        if (const auto found = channelMajor_.find(id); found != channelMajor_.end()) *slot = found->second.lock();
      }
      if (!*slot) {
        *slot = place_->makeChannels(matrix, layout == Layout::columns, pool, progress);
        if (!*slot) return cancelled();
        std::scoped_lock lock(mutex_);
        channelMajor_[id] = *slot;
      }
      sparse->bytes += (*slot)->bytes();
    }
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory for a copy of the weights by channel, which " + method->name + " reads.",
                 "Choose activation.method=cats, which copies the fewest, fewer weights.bits, or a smaller model."};
  }
  if (target.profiled && !place_->planning()) {
    CHECK(measurements.profile, target.activation);
    auto measured = measurements.profile(target, set, *target.profiled, progress);
    if (!measured) return measured.error();
    sparse->profile = std::move(*measured);
  }
  return std::shared_ptr<const SparseWeights>(std::move(sparse));
}

}  // namespace winnow
