// SPDX-License-Identifier: GPL-3.0-or-later
// A row of logits in one block: the order of its values.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

constexpr int kLogitsThreads = 1024, kLogitsWarps = kLogitsThreads / 32;

// Orders like the float, both zeros alike.
__device__ inline uint32_t orderOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float floatOfOrder(uint32_t order) { return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order); }

// Largest first, then the lowest id: the maximum of these.
__device__ inline uint64_t rankOf(float x, int id) {
  return static_cast<uint64_t>(orderOf(x)) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
__device__ inline int idOfRank(uint64_t rank) { return static_cast<int>(0xffffffffu - static_cast<uint32_t>(rank)); }

__device__ inline uint64_t blockBest(uint64_t rank, SharedArray<uint64_t, kLogitsWarps>& scratch) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, rank, d);
    rank = other > rank ? other : rank;
  }
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = rank;
  __syncthreads();
  for (int i = 0; i < kLogitsWarps; ++i) {
    const uint64_t other = scratch[i];
    rank = other > rank ? other : rank;
  }
  return rank;
}
__device__ inline uint64_t bestOfRow(Pointer<const float> x, int vocab, SharedArray<uint64_t, kLogitsWarps>& scratch) {
  uint64_t rank = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kLogitsThreads) {
    const uint64_t mine = rankOf(x[i], i);
    rank = mine > rank ? mine : rank;
  }
  return blockBest(rank, scratch);
}

}  // namespace winnow::cuda
