// SPDX-License-Identifier: GPL-3.0-or-later
// The one row of a step as every block of a product makes it for itself, in shared memory: the row and its norm are read from the
// second-level cache instead of a launch of its own. Values and their forms are prepare.cuh's to the bit.
#pragma once
#include "engine/cuda/prepare.cuh"

namespace winnow::cuda {

// A block that makes the row uses it for `perBlock` neighbouring tiles, so that large matrices do not make it thousands of times.
constexpr int kRowBlocks = 512;
// What a block may take for it: beside 48 KB of codes it still fits the devices with the least shared memory (99 KB to a block).
constexpr size_t kMostRowBytes = size_t{48} << 10;

struct RowSource {
  PrepareJob made;  // of one token; where it goes is the kernel's
  Source::Kind kind{};
  int perBlock = 1;
};

inline size_t fragmentBytes(ActivationMode mode, int chunks) {
  return static_cast<size_t>(chunks) * sizeof(uint32_t) * static_cast<size_t>(pieceWords(mode) + (mode == ActivationMode::int8 ? 2 : 0));
}

// A kernel's rows differ in length, and a captured launch keeps its own: the most is asked for, whatever this one needs.
template <class... P, class... A>
void launchOneRow(const char* name, Stream stream, unsigned blocks, int threads, size_t rowBytes, void (*kernel)(P...), A&&... arguments) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  throwIfFailed(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kMostRowBytes)), name);
  launch(name, stream, {dim3(blocks), dim3(static_cast<unsigned>(threads)), rowBytes}, kernel, std::forward<A>(arguments)...);
}

template <ActivationMode mode>
__device__ inline Fragments fragmentsInShared(int chunks) {
  Fragments to;
  to.words = dynamicShared<uint32_t>();
  to.tokens = 1;
  if constexpr (mode == ActivationMode::int8) {
    to.scales = dynamicShared<float>() + chunks * pieceWords(mode);
    to.sums = dynamicShared<int32_t>() + chunks * (pieceWords(mode) + 1);
  }
  return to;
}

// By kRowThreads. scratch: [2 kRowWarps].
template <ActivationMode mode>
__device__ inline void makeFragments(const RowSource& source, const Fragments& to, Pointer<float> scratch) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const RowNorm norm = normOf<kRowThreads>(source.made, source.kind, source.made.x, scratch);
  for (int chunk = warp; chunk < source.made.chunks; chunk += kRowWarps) {
    const int k = chunk * 32 + lane;
    writeFragments(to, mode, chunk, 0, lane, k < source.made.cols ? madeValue(source.made, source.kind, norm, 0, k) : 0.0f);
  }
  __syncthreads();
}

template <int threads>
__device__ inline void makeRounded(const RowSource& source, Pointer<float> to /* [cols] */, Pointer<float> scratch) {
  const RowNorm norm = normOf<threads>(source.made, source.kind, source.made.x, scratch);
  for (int k = static_cast<int>(threadIdx.x); k < source.made.cols; k += threads)
    to[k] = roundedAs(source.made.mode, madeValue(source.made, source.kind, norm, 0, k));
  __syncthreads();
}

}  // namespace winnow::cuda
