// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/weights.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"
#include "engine/weights/constants.h"
#include "engine/weights/pruning.h"
#include "engine/weights/sparse_rows.h"

namespace winnow::cuda {
namespace {

constexpr size_t kPiece = size_t{16} << 20;  // bytes that go over at once

std::shared_ptr<DeviceMatrix> allocate(Ledger& ledger, Matrix& m) {
  auto memory = std::make_shared<DeviceMatrix>();
  const bool packed = m.format.storage == Storage::packed;
  if (m.format.sparse && m.sparse.count == 0) m.sparse.count = m.format.keptOf(static_cast<size_t>(m.rows) * static_cast<size_t>(m.cols));  // a plan's
  const auto place = [&](DeviceBuffer& buffer, size_t bytes) {
    if (bytes > 0) buffer = DeviceBuffer(ledger, MemoryTag::weights, bytes);
  };
  place(memory->codes, packed ? m.format.codeBytes(m.rows, m.cols) : m.bytes());
  if (packed) {
    const size_t scales = m.format.scaleBytes(m.rows, m.cols);
    place(memory->scales, scales);
    place(memory->mins, m.format.symmetric ? 0 : scales);
    place(memory->steps, m.format.stepBytes(m.rows, m.cols));
  }
  if (m.format.sparse && memory->codes.bytes() > 0 && !ledger.planning())
    m.sparse = sparseParts(memory->codes.as<void>(), m.rows, m.sparse.count, m.format.elementBytes());
  else if (!m.format.sparse)
    m.data = memory->codes.as<void>();
  m.scales = memory->scales.as<uint16_t>();
  m.mins = memory->mins.as<uint16_t>();
  m.steps = memory->steps.as<uint8_t>();
  return memory;
}

struct FactorMemory {
  DeviceBuffer left, right;
};

// The factors of a recipe, of which the memory is the device's; none where it asks for none.
void placeFactors(Ledger& ledger, const Recipe& recipe, WeightVersion& version) {
  const Matrix& m = version.matrix;
  const int rank = errorRankOf(recipe, m.rows, m.cols);
  if (rank == 0) return;
  auto memory = std::make_shared<FactorMemory>();
  const auto place = [&](DeviceBuffer& buffer, Matrix& factor, int rows, int cols) {
    buffer = DeviceBuffer(ledger, MemoryTag::weights, kFactorFormat.bytes(rows, cols));
    factor.format = kFactorFormat;
    factor.rows = rows;
    factor.cols = cols;
    factor.data = buffer.as<void>();
  };
  place(memory->left, version.error.left, m.rows, rank);
  place(memory->right, version.error.right, rank, m.cols);
  version.error.memory = memory;
}

MatrixArgs argsOf(const Matrix& m) { return {m.format, m.rows, m.cols, m.data, m.scales, m.mins, m.steps, m.sparse}; }
Storage storageOf(DType type) { return type == DType::f32 ? Storage::f32 : type == DType::f16 ? Storage::f16 : Storage::bf16; }
size_t elementBytes(Storage storage) { return storage == Storage::f32 ? 4 : 2; }

// Rows lie in the file one behind the other, as plain values.
bool rowsInFile(const MasterTensor& t) {
  return t.direct() && !isBlockType(t.type) && t.storedRowBytes == elementBytes(storageOf(t.type)) * static_cast<size_t>(t.cols);
}

bool rounds(const Recipe& recipe) { return recipe.method == "rtn" && recipe.format.storage == Storage::packed && recipe.format.super == 0; }
bool prunes(const MasterTensor& tensor, const Recipe& recipe) {
  return recipe.prune == "magnitude" && recipe.recovery.empty() && recipe.prunePattern == "unstructured" && recipe.pruneScope == "matrix" && tensor.cols > 0 && (rounds(recipe) || (recipe.method.empty() && recipe.format.storage != Storage::packed));
}

// Whether a flag in device memory was raised.
class Flag {
 public:
  Flag(Ledger& ledger, Stream stream) : stream_(stream), flag_(ledger, MemoryTag::metadata, sizeof(int32_t)) { flag_.clear(stream); }
  int32_t* get() const { return flag_.as<int32_t>(); }
  bool raised() const {
    int32_t value = 0;
    flag_.copyTo(stream_, &value, sizeof value);
    return value != 0;
  }

 private:
  Stream stream_;
  DeviceBuffer flag_;
};

// Rows as f32, decoded by the pool.
void decode(const WeightWork& work, int64_t first, int64_t count, std::vector<float>& out) {
  out.resize(static_cast<size_t>(count * work.tensor.cols));
  work.pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(count, 16, thread, threads);
    if (range.end > range.begin) Model::decodeRows(work.tensor, first + range.begin, range.end - range.begin, out.data() + range.begin * work.tensor.cols);
  });
}

}  // namespace

int64_t DevicePlace::bytes(const MasterTensor& tensor, const Recipe& recipe) const {
  const auto rows = static_cast<int>(tensor.rows), cols = static_cast<int>(tensor.cols);
  return static_cast<int64_t>(recipe.format.bytes(rows, cols)) + errorBytes(recipe, rows, cols) + biasBytes(recipe, rows);
}

Converted DevicePlace::make(const WeightWork& work, WeightVersion& out) {
  Matrix& m = out.matrix;
  m.format = work.recipe.format;
  m.rows = static_cast<int>(work.tensor.rows);
  m.cols = static_cast<int>(work.tensor.cols);
  if (!planning()) useDevice(ordinal_);
  if (m.format.sparse && !planning()) return sparse(work, out);
  const std::shared_ptr<DeviceMatrix> memory = allocate(device_, m);
  out.memory = memory;
  placeFactors(device_, work.recipe, out);
  if (planning()) return Converted::done;
  const OwnStream stream;
  if (usableInPlace(work.tensor, work.recipe)) {
    const Converted copied = copyFile(work, *memory, stream.get());
    std::scoped_lock lock(mutex_);
    if (copied == Converted::done) copies_[&work.tensor] = memory;
    return copied;
  }
  // Super weights are taken out, sums of layers made, errors and constants fitted on the host.
  const bool here = !isBlockType(work.tensor.type) && work.inputs.super.empty() && work.recipe.sum.empty() && !out.error && !work.recipe.addsConstants();
  if (here && prunes(work.tensor, work.recipe)) return prune(work, m, stream.get());
  if (here && work.recipe.prune.empty() && rounds(work.recipe)) return quantize(work, m, stream.get());
  return fromHost(work, *memory, out, stream.get());
}

void fetchMatrix(const Matrix& m, Matrix& copy) {
  CHECK(!m.format.sparse, m.format.describe());  // whoever reads channels keeps its zeros (prune.storage)
  const bool packed = m.format.storage == Storage::packed;
  static Ledger uncounted;  // copies live for a moment
  copy = Matrix::allocate(uncounted, m.format, m.rows, m.cols);
  const size_t scales = packed ? m.format.scaleBytes(m.rows, m.cols) : 0;
  const auto fetch = [](const void* to, const void* from, size_t bytes) {
    if (from && bytes > 0) throwIfFailed(cudaMemcpy(const_cast<void*>(to), from, bytes, cudaMemcpyDeviceToHost), "copy");
  };
  fetch(copy.data, m.data, packed ? m.format.codeBytes(m.rows, m.cols) : m.bytes());
  fetch(copy.scales, m.scales, scales);
  fetch(copy.mins, m.mins, scales);
  fetch(copy.steps, m.steps, m.format.stepBytes(m.rows, m.cols));
}

std::shared_ptr<const ChannelMajor> channelsOnDevice(Ledger& device, const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) {
  const auto allocator = [&device](size_t bytes) {
    const auto buffer = std::make_shared<DeviceBuffer>(device, MemoryTag::weights, bytes);
    return ChannelMajor::Memory(buffer, buffer->as<void>(), bytes);
  };
  auto made = std::make_shared<ChannelMajor>(ChannelMajor::allocate(allocator, matrix, columns));
  if (device.planning()) return made;
  Matrix copy;
  fetchMatrix(matrix, copy);
  Ledger host;  // for a moment
  ChannelMajor filled = ChannelMajor::allocate(host, copy, columns);
  if (!filled.fill(copy, pool, progress)) return nullptr;
  const auto send = [](const ChannelMajor::Memory& to, const ChannelMajor::Memory& from) {
    if (to.bytes() > 0) throwIfFailed(cudaMemcpy(to.data(), from.data(), to.bytes(), cudaMemcpyHostToDevice), "copy");
  };
  send(made->data, filled.data);
  send(made->scales, filled.scales);
  send(made->mins, filled.mins);
  return made;
}

std::shared_ptr<const ChannelMajor> DevicePlace::makeChannels(const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) {
  if (!planning()) useDevice(ordinal_);
  return channelsOnDevice(device_, matrix, columns, pool, progress);
}

const Matrix& DevicePlace::onHost(const Matrix& matrix, Matrix& copy) const {
  useDevice(ordinal_);
  fetchMatrix(matrix, copy);
  return copy;
}

Converted DevicePlace::copyFile(const WeightWork& work, const DeviceMatrix& to, Stream stream) {
  const auto* file = reinterpret_cast<const char*>(work.tensor.directRow(0));
  for (size_t at = 0; at < to.codes.bytes(); at += kPiece) {
    if (work.progress.stopped()) return Converted::cancelled;
    to.codes.copyFrom(stream, file + at, std::min(kPiece, to.codes.bytes() - at), at);
  }
  wait(stream);
  work.progress.advance(work.tensor.rows * work.tensor.cols);
  return Converted::done;
}

std::shared_ptr<const DeviceMatrix> DevicePlace::resident(const MasterTensor& tensor) {
  std::scoped_lock lock(mutex_);
  const auto found = copies_.find(&tensor);
  return found == copies_.end() ? nullptr : found->second.lock();
}

Converted DevicePlace::quantize(const WeightWork& work, const Matrix& out, Stream stream) {
  const MasterTensor& tensor = work.tensor;
  const Flag damaged(device_, stream);
  const auto round = [&](const void* rows, Storage storage, int64_t first, int64_t count) {
    findNotFinite(stream, rows, storage, count * tensor.cols, damaged.get());
    quantizeRtn(stream, rows, storage, static_cast<int>(first), static_cast<int>(count), argsOf(out));
    work.progress.advance(count * tensor.cols);
  };
  // Pieces of whole tiles, within what one grid takes.
  const bool inFile = rowsInFile(tensor);
  const Storage storage = inFile ? storageOf(tensor.type) : Storage::f32;
  const size_t rowBytes = elementBytes(storage) * static_cast<size_t>(tensor.cols);
  const std::shared_ptr<const DeviceMatrix> copy = resident(tensor);
  const size_t wanted = copy ? size_t{65535} * 16 : std::max<size_t>(kPiece / rowBytes / 16, 1) * 16;
  const auto step = static_cast<int64_t>(std::min<size_t>(wanted, static_cast<size_t>((tensor.rows + 15) / 16 * 16)));
  DeviceBuffer staging;
  if (!copy) staging = DeviceBuffer(device_, MemoryTag::activations, static_cast<size_t>(step) * rowBytes);
  std::vector<float> decoded;
  for (int64_t first = 0; first < tensor.rows; first += step) {
    if (work.progress.stopped()) return Converted::cancelled;
    const int64_t count = std::min(step, tensor.rows - first);
    const void* rows = copy ? copy->codes.as<char>() + static_cast<size_t>(first) * rowBytes : staging.as<char>();
    if (!copy && inFile) staging.copyFrom(stream, tensor.directRow(first), static_cast<size_t>(count) * rowBytes);
    if (!copy && !inFile) {
      decode(work, first, count, decoded);
      staging.copyFrom(stream, decoded.data(), decoded.size() * sizeof(float));
    }
    round(rows, storage, first, count);
    wait(stream);  // the rows' memory is used again
  }
  ++madeHere_;
  return damaged.raised() ? Converted::damaged : Converted::done;
}

// The threshold is one of the whole matrix: all of it is there as f32 for a moment.
Converted DevicePlace::prune(const WeightWork& work, const Matrix& out, Stream stream) {
  const MasterTensor& tensor = work.tensor;
  const size_t rowBytes = sizeof(float) * static_cast<size_t>(tensor.cols);
  const Flag damaged(device_, stream);
  DeviceBuffer all(device_, MemoryTag::activations, rowBytes * static_cast<size_t>(tensor.rows));
  DeviceBuffer scratch(device_, MemoryTag::activations, pruneScratchBytes(out.rows));
  const auto step = static_cast<int64_t>(std::max<size_t>(kPiece / rowBytes, 1));
  std::vector<float> decoded;
  for (int64_t first = 0; first < tensor.rows; first += step) {
    if (work.progress.stopped()) return Converted::cancelled;
    const int64_t count = std::min(step, tensor.rows - first);
    decode(work, first, count, decoded);
    all.copyFrom(stream, decoded.data(), decoded.size() * sizeof(float), static_cast<size_t>(first) * rowBytes);
    wait(stream);
    work.progress.advance(count * tensor.cols);
  }
  findNotFinite(stream, all.as<void>(), Storage::f32, tensor.rows * tensor.cols, damaged.get());
  pruneMagnitude(stream, all.as<float>(), out.rows, out.cols, work.recipe.pruneRatio, scratch.as<void>());
  if (out.format.storage == Storage::packed)
    for (int first = 0; first < out.rows; first += 65535 * 16)
      quantizeRtn(stream, all.as<float>() + int64_t{first} * out.cols, Storage::f32, first, std::min(65535 * 16, out.rows - first), argsOf(out));
  else
    narrow(stream, all.as<float>(), tensor.rows * tensor.cols, out.format.storage, const_cast<void*>(out.data));
  ++madeHere_;
  return damaged.raised() ? Converted::damaged : Converted::done;  // waits: what is freed has been read
}

// What the host makes of it: how much is left is known only then.
Converted DevicePlace::sparse(const WeightWork& work, WeightVersion& out) {
  Ledger host;  // for a moment
  WeightVersion made;
  const Converted converted = HostPlace(host).make(work, made);
  if (converted != Converted::done) return converted;
  out.matrix.format = made.matrix.format;
  out.matrix.sparse.count = made.matrix.sparse.count;
  out.constants = std::move(made.constants);
  const std::shared_ptr<DeviceMatrix> memory = allocate(device_, out.matrix);
  out.memory = memory;
  const OwnStream stream;
  memory->codes.copyFrom(stream.get(), made.matrix.codes.as<std::byte>(), made.matrix.codes.bytes());
  wait(stream.get());
  return Converted::done;
}

Converted DevicePlace::fromHost(const WeightWork& work, const DeviceMatrix& to, WeightVersion& out, Stream stream) {
  Ledger host;  // for a moment
  Matrix made = Matrix::allocate(host, out.matrix.format, out.matrix.rows, out.matrix.cols);
  std::shared_ptr<const PruneScores> scores;
  std::unique_ptr<Pruner> pruner;
  if (!work.recipe.prune.empty()) {
    const TensorPruning pruning(work.tensor, work.recipe, work.inputs, work.pool);
    scores = pruning.prepare(host);
    pruner = pruning.pruner(*scores);
  }
  const Converted converted = convert(work.tensor, work.recipe, pruner.get(), work.inputs, work.pool, work.progress, made, &out.corrections);
  if (converted != Converted::done) return converted;
  ErrorFactors factors = allocateFactors(host, work.recipe, made.rows, made.cols);
  if (const Converted fitted = fitBeside(work, made, factors, out.constants); fitted != Converted::done) return fitted;
  const auto send = [&](const DeviceBuffer& buffer, const void* from) {
    if (buffer.bytes() > 0) buffer.copyFrom(stream, from, buffer.bytes());
  };
  send(to.codes, made.data);
  send(to.scales, made.scales);
  send(to.mins, made.mins);
  send(to.steps, made.steps);
  if (const auto* thin = static_cast<const FactorMemory*>(out.error.memory.get())) {
    send(thin->left, factors.left.data);
    send(thin->right, factors.right.data);
  }
  wait(stream);
  return Converted::done;
}

}  // namespace winnow::cuda
