// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/weights.h"

#include "engine/core/check.h"

namespace winnow::cuda {

const void* DeviceWeights::upload(Ledger& ledger, const void* host, size_t bytes, Stream stream) {
  if (!host) return nullptr;
  DeviceBuffer& buffer = buffers_.emplace_back(ledger, MemoryTag::weights, bytes);
  if (!ledger.planning()) buffer.copyFrom(stream, host, bytes);
  return buffer.as<void>();
}

DeviceWeights::DeviceWeights(Ledger& ledger, std::shared_ptr<const WeightSet> set, Stream stream) : set_(std::move(set)) {
  for (const auto& version : set_->versions) {
    const Matrix& m = version->matrix;
    const bool packed = m.format.storage == Storage::packed;
    const size_t scales = packed ? m.format.scaleBytes(m.rows, m.cols) : 0;
    MatrixArgs args{m.format, m.rows, m.cols};
    args.data = upload(ledger, m.data, packed ? m.format.codeBytes(m.rows, m.cols) : m.bytes(), stream);
    args.scales = static_cast<const uint16_t*>(upload(ledger, m.scales, scales, stream));
    args.mins = static_cast<const uint16_t*>(upload(ledger, m.mins, scales, stream));
    args.steps = static_cast<const uint8_t*>(upload(ledger, m.steps, m.format.stepBytes(m.rows, m.cols), stream));
    matrices_.emplace(&m, args);
    if (m.format.storage == Storage::f32) vectors_.emplace(m.data, static_cast<const float*>(args.data));
  }
}

size_t DeviceWeights::makeTwins(Ledger& ledger, size_t room, Stream stream) {
  dropTwins();
  size_t taken = 0;
  for (const auto& version : set_->versions) {
    MatrixArgs& args = matrices_.at(&version->matrix);
    const size_t bytes = size_t{2} * static_cast<size_t>(args.rows) * static_cast<size_t>(args.cols);
    if (args.format.storage != Storage::packed || args.cols % 8 != 0 || taken + bytes > room) continue;
    DeviceBuffer& twin = twins_.emplace_back(ledger, MemoryTag::weights, bytes);
    if (!ledger.planning()) decodeToHalves(stream, args, 0, args.rows, twin.as<uint16_t>());
    args.twin = twin.as<uint16_t>();
    taken += bytes;
  }
  return taken;
}

void DeviceWeights::dropTwins() {
  for (auto& [host, args] : matrices_) args.twin = nullptr;
  twins_.clear();
}

MatrixArgs DeviceWeights::matrix(const Matrix* host) const {
  const auto found = matrices_.find(host);
  CHECK(found != matrices_.end(), "a matrix of another set");
  return found->second;
}

const float* DeviceWeights::vector(const float* host) const {
  if (!host) return nullptr;
  const auto found = vectors_.find(host);
  CHECK(found != vectors_.end(), "a vector of another set");
  return found->second;
}

}  // namespace winnow::cuda
