// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/weights.h"

#include <algorithm>

#include "engine/core/check.h"

namespace winnow::cuda {
namespace {

struct DeviceMatrix {
  DeviceBuffer codes, scales, mins, steps;
};

std::shared_ptr<DeviceMatrix> allocate(Ledger& ledger, Matrix& m) {
  auto memory = std::make_shared<DeviceMatrix>();
  const bool packed = m.format.storage == Storage::packed;
  const size_t scales = packed ? m.format.scaleBytes(m.rows, m.cols) : 0;
  memory->codes = DeviceBuffer(ledger, MemoryTag::weights, packed ? m.format.codeBytes(m.rows, m.cols) : m.bytes());
  if (packed) memory->scales = DeviceBuffer(ledger, MemoryTag::weights, scales);
  if (packed && !m.format.symmetric) memory->mins = DeviceBuffer(ledger, MemoryTag::weights, scales);
  if (packed && m.format.super != 0) memory->steps = DeviceBuffer(ledger, MemoryTag::weights, m.format.stepBytes(m.rows, m.cols));
  m.data = memory->codes.as<void>();
  m.scales = memory->scales.as<uint16_t>();
  m.mins = memory->mins.as<uint16_t>();
  m.steps = memory->steps.as<uint8_t>();
  return memory;
}

}  // namespace

int64_t DevicePlace::bytes(const MasterTensor& tensor, const Recipe& recipe) const {
  return static_cast<int64_t>(recipe.format.bytes(static_cast<int>(tensor.rows), static_cast<int>(tensor.cols)));
}

Converted DevicePlace::make(const WeightWork& work, WeightVersion& out) {
  useDevice(ordinal_);
  constexpr size_t kPiece = size_t{16} << 20;
  const MasterTensor& tensor = work.tensor;
  const Recipe& recipe = work.recipe;
  Matrix& m = out.matrix;
  m.format = recipe.format;
  m.rows = static_cast<int>(tensor.rows);
  m.cols = static_cast<int>(tensor.cols);
  const std::shared_ptr<DeviceMatrix> memory = allocate(device_, m);
  out.memory = memory;
  if (planning()) return Converted::done;
  OwnStream stream;
  if (usableInPlace(tensor, recipe)) {
    const auto* file = reinterpret_cast<const char*>(tensor.directRow(0));
    for (size_t at = 0; at < memory->codes.bytes(); at += kPiece) {
      if (work.progress.stopped()) return Converted::cancelled;
      memory->codes.copyFrom(stream.get(), file + at, std::min(kPiece, memory->codes.bytes() - at), at);
    }
    wait(stream.get());
    work.progress.advance(tensor.rows * tensor.cols);
    return Converted::done;
  }
  Ledger host;  // for a moment
  Matrix made = Matrix::allocate(host, recipe.format, m.rows, m.cols);
  if (const Converted converted = convert(tensor, recipe, work.calibration, work.pool, work.progress, made); converted != Converted::done) return converted;
  memory->codes.copyFrom(stream.get(), made.data, memory->codes.bytes());
  if (memory->scales.bytes() > 0) memory->scales.copyFrom(stream.get(), made.scales, memory->scales.bytes());
  if (memory->mins.bytes() > 0) memory->mins.copyFrom(stream.get(), made.mins, memory->mins.bytes());
  if (memory->steps.bytes() > 0) memory->steps.copyFrom(stream.get(), made.steps, memory->steps.bytes());
  wait(stream.get());
  return Converted::done;
}

}  // namespace winnow::cuda
