// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/roofline.cuh"

#include <algorithm>
#include <vector>

#include "engine/cuda/checked.h"
#include "engine/cuda/graph.h"

namespace winnow::cuda {

void readStream(Stream stream, const uint32_t* data, int64_t words, int blocks, uint32_t* sums) {
  CHECK(words % 4 == 0, words);
  launch("readStream", stream, {dim3(static_cast<unsigned>(blocks)), dim3(kReadThreads)}, readWords, data, words / 4, sums);
}

void fillUniform(Stream stream, void* data, Storage storage, int64_t count, float low, float high, uint32_t seed) {
  if (count <= 0) return;
  const Grid grid{dim3(std::min(blocksFor(count, kFillThreads), 4096u)), dim3(kFillThreads)};
  const float width = high - low;
  switch (storage) {
    case Storage::f32:
      return launch("fill", stream, grid, fillValues<float, Storage::f32>, static_cast<float*>(data), count, low, width, seed);
    case Storage::f16:
      return launch("fill", stream, grid, fillValues<uint16_t, Storage::f16>, static_cast<uint16_t*>(data), count, low, width, seed);
    case Storage::bf16:
      return launch("fill", stream, grid, fillValues<uint16_t, Storage::bf16>, static_cast<uint16_t*>(data), count, low, width, seed);
    case Storage::packed: break;
  }
  CHECK(false, "packed codes are bits");
}

void fillBits(Stream stream, void* data, size_t bytes, uint32_t seed) {
  CHECK(bytes % 4 == 0, bytes);
  if (bytes == 0) return;
  const auto words = static_cast<int64_t>(bytes / 4);
  launch("fill", stream, {dim3(std::min(blocksFor(words, kFillThreads), 4096u)), dim3(kFillThreads)}, fillWords<uint32_t>,
         static_cast<uint32_t*>(data), words, seed);
}

double measureReadBandwidth(Stream stream, size_t bytes) {
  constexpr int kRounds = 10;
  constexpr size_t kUnit = 4096;
  const size_t whole = std::max(bytes / kUnit, size_t{1}) * kUnit;
  int device = 0, multiprocessors = 1;
  throwIfFailed(cudaGetDevice(&device), "device");
  throwIfFailed(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "device");
  const int blocks = multiprocessors * 2048 / kReadThreads;  // as many threads as fit
  Ledger ledger;
  DeviceBuffer data(ledger, MemoryTag::activations, whole), sums(ledger, MemoryTag::activations, static_cast<size_t>(blocks) * sizeof(uint32_t));
  throwIfFailed(cudaMemsetAsync(data.as<void>(), 0x5a, whole, stream), "clear");
  EventMarks marks(stream, 1);
  double best = 0;
  for (int round = 0; round <= kRounds; ++round) {  // the first warms up
    marks.begin(0);
    readStream(stream, data.as<uint32_t>(), static_cast<int64_t>(whole / sizeof(uint32_t)), blocks, sums.as<uint32_t>());
    marks.end();
    wait(stream);
    const auto ns = static_cast<double>(marks.ns(0));
    if (round > 0 && ns > 0) best = std::max(best, static_cast<double>(whole) / ns);
  }
  return best;
}

}  // namespace winnow::cuda
