// SPDX-License-Identifier: GPL-3.0-or-later
// A read that waits for nothing but memory: every thread has four 16-byte loads in flight.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/roofline.h"

namespace winnow::cuda {

constexpr int kReadWarps = kReadThreads / 32, kReadAhead = 4;

__global__ void __launch_bounds__(kReadThreads) readWords(Pointer<const uint32_t> data, int64_t vectors, Pointer<uint32_t> sums) {
  __shared__ SharedArray<uint32_t, kReadWarps> parts;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kReadThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kReadThreads + threadIdx.x;
  uint32_t seen = 0;
  for (; i + (kReadAhead - 1) * stride < vectors; i += kReadAhead * stride) {
    uint4 v[kReadAhead];
#pragma unroll
    for (int k = 0; k < kReadAhead; ++k) v[k] = load<uint4>(data + (i + k * stride) * 4);
#pragma unroll
    for (int k = 0; k < kReadAhead; ++k) seen ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  for (; i < vectors; i += stride) {
    const uint4 v = load<uint4>(data + i * 4);
    seen ^= v.x ^ v.y ^ v.z ^ v.w;
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) seen ^= __shfl_xor_sync(kAllLanes, seen, d);
  if (threadIdx.x % 32 == 0) parts[static_cast<int>(threadIdx.x) / 32] = seen;
  __syncthreads();
  if (threadIdx.x != 0) return;
  uint32_t all = 0;
  for (int w = 0; w < kReadWarps; ++w) all ^= parts[w];
  sums[static_cast<int>(blockIdx.x)] = all;
}

constexpr int kFillThreads = 256;

// A finalizer of hashes: neighbouring counters give unrelated bits.
__device__ inline uint32_t mixedBits(uint64_t counter, uint32_t seed) {
  uint64_t z = counter * 0x9e3779b97f4a7c15ull + seed;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
}

template <class T, Storage storage>
__global__ void __launch_bounds__(kFillThreads) fillValues(Pointer<T> out, int64_t count, float low, float width, uint32_t seed) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kFillThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kFillThreads + threadIdx.x; i < count; i += stride) {
    const float v = low + width * (static_cast<float>(mixedBits(static_cast<uint64_t>(i), seed) >> 8) * 0x1p-24f);
    if constexpr (storage == Storage::f32) out[i] = v;
    else out[i] = storage == Storage::bf16 ? floatToBf16(v) : floatToHalf(v);
  }
}

template <class T>
__global__ void __launch_bounds__(kFillThreads) fillWords(Pointer<T> out, int64_t count, uint32_t seed) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kFillThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kFillThreads + threadIdx.x; i < count; i += stride)
    out[i] = mixedBits(static_cast<uint64_t>(i), seed);
}

}  // namespace winnow::cuda
