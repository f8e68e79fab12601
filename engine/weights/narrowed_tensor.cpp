// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/narrowed_tensor.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "engine/core/check.h"
#include "engine/core/sha256.h"
#include "engine/weights/kept_channels.h"

namespace winnow {

Channels keptChannels(std::vector<int> list) {
  std::string text;
  for (const int channel : list) text += std::to_string(channel) + " ";
  std::string key = std::to_string(list.size()) + " channels " + sha256Hex(text);
  return std::make_shared<const KeptChannels>(KeptChannels{std::move(list), std::move(key)});
}

bool narrowsRows(TensorRole role) {
  return role == TensorRole::gate || role == TensorRole::up || role == TensorRole::q || role == TensorRole::k || role == TensorRole::v;
}

bool narrowable(TensorRole role) {
  return narrowsRows(role) || role == TensorRole::down || role == TensorRole::o || role == TensorRole::gateBias || role == TensorRole::upBias || role == TensorRole::qBias ||
         role == TensorRole::kBias || role == TensorRole::vBias;
}

const Channels& keptOf(const KeptOfLayer& layer, TensorRole role) {
  switch (role) {
    case TensorRole::q:
    case TensorRole::qBias: return layer.attention.queries;
    case TensorRole::k:
    case TensorRole::kBias: return layer.attention.keys;
    case TensorRole::v:
    case TensorRole::vBias: return layer.attention.values;
    case TensorRole::o: return layer.attention.outputs;
    default: CHECK(narrowable(role), "no channels of", tensorRoleName(role)); return layer.ffn;
  }
}

MasterTensor narrowedShape(MasterTensor whole, int channels) {
  CHECK(narrowable(whole.role), whole.fileName);
  (narrowsRows(whole.role) ? whole.rows : whole.cols) = channels;
  return whole;
}

NarrowedTensor::NarrowedTensor(const MasterTensor& whole, std::span<const int> kept, ThreadPool& pool, float scale) : tensor_(narrowedShape(whole, static_cast<int>(kept.size()))) {
  tensor_.firstStoredRow = tensor_.firstStoredCol = 0;
  tensor_.unpermuteHeads = tensor_.unpermuteDims = 0;
  tensor_.transposed = false;
  if (narrowsRows(whole.role) && !whole.transposed && scale == 1)
    gatherStoredRows(whole, kept);
  else
    gather(whole, kept, pool);
  if (scale != 1)
    for (float& value : values_) value *= scale;
}

void NarrowedTensor::gatherStoredRows(const MasterTensor& whole, std::span<const int> kept) {
  stored_.resize(kept.size() * whole.storedRowBytes);
  for (size_t i = 0; i < kept.size(); ++i)
    std::memcpy(stored_.data() + i * whole.storedRowBytes, whole.data + static_cast<size_t>(whole.storedRowOf(kept[i])) * whole.storedRowBytes, whole.storedRowBytes);
  tensor_.data = stored_.data();
}

void NarrowedTensor::gather(const MasterTensor& whole, std::span<const int> kept, ThreadPool& pool) {
  constexpr int64_t kBand = 128;
  const bool rows = narrowsRows(whole.role);
  const auto cols = static_cast<size_t>(tensor_.cols);
  values_.resize(static_cast<size_t>(tensor_.rows) * cols);
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    std::vector<float> decoded(static_cast<size_t>(kBand * whole.cols));
    for (int64_t first; (first = next.fetch_add(kBand)) < whole.rows;) {
      const int64_t count = std::min(kBand, whole.rows - first);
      Model::decodeRows(whole, first, count, decoded.data());
      if (rows) {
        for (auto it = std::ranges::lower_bound(kept, static_cast<int>(first)); it != kept.end() && *it < first + count; ++it)
          std::copy_n(decoded.data() + (*it - first) * whole.cols, cols, values_.data() + static_cast<size_t>(it - kept.begin()) * cols);
        continue;
      }
      for (int64_t r = 0; r < count; ++r)
        for (size_t c = 0; c < cols; ++c) values_[static_cast<size_t>(first + r) * cols + c] = decoded[static_cast<size_t>(r * whole.cols + kept[c])];
    }
  });
  tensor_.type = DType::f32;
  tensor_.data = reinterpret_cast<const std::byte*>(values_.data());
  tensor_.storedRowBytes = cols * sizeof(float);
}

}  // namespace winnow
