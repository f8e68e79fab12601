// SPDX-License-Identifier: GPL-3.0-or-later
// From the projections into the cache, and eviction's gather.
#pragma once
#include "engine/cuda/hadamard.cuh"
#include "engine/cuda/pages.cuh"

namespace winnow::cuda {

constexpr int kStoreWarps = 4;

// In double, as on the CPU: at position 100 000 the rounding of an f32 product would turn the fastest pair by 0.004.
__global__ void rotationTable(Pointer<const float> frequencies, int half, Pointer<const int32_t> positionIds, int tokens,
                              Pointer<float> cosines, Pointer<float> sines) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= tokens * half) return;
  const double angle = static_cast<double>(positionIds[i / half]) * static_cast<double>(frequencies[i % half]);
  cosines[i] = static_cast<float>(cos(angle));
  sines[i] = static_cast<float>(sin(angle));
}

struct StoreJob {
  Pointer<float> q, k;
  Pointer<const float> v, qNorm, kNorm, cosines, sines;
  Pointer<const int32_t> positionIds, pairs;  // pairs: rope_pairs.h, or null
  Pointer<float> recent;
  Pages pages;
  float eps = 0, hadamard = 0;  // hadamard: 1 / sqrt(headDim), or 0: no rotation
  int recentRows = 0, tokens = 0, heads = 0, kvHeads = 0, headDim = 0, half = 0, table = 0, items = 0;  // pairs of a head and of the table; items: heads of q, k and v together
};

// RMSNorm and RoPE of one head held in a warp's part of shared memory.
__device__ inline void turnHead(const StoreJob& job, Pointer<float> head, bool normed, Pointer<const float> norm, int token, int kvHead, int lane) {
  if (normed) {
    float squares = 0;
    for (int c = lane; c < job.headDim; c += 32) {
      const float x = head[c];
      squares = fmaf(x, x, squares);
    }
    const float scale = 1.0f / sqrtf(warpSum(squares) / static_cast<float>(job.headDim) + job.eps);
    for (int c = lane; c < job.headDim; c += 32) head[c] = head[c] * scale * norm[c];
    __syncwarp();
  }
  if (!job.cosines) return;
  for (int c = lane; c < job.half; c += 32) {
    const int at = token * job.table + (job.pairs ? static_cast<int>(job.pairs[kvHead * job.half + c]) : c);
    const float a = head[c], b = head[job.half + c], cosine = job.cosines[at], sine = job.sines[at];
    head[c] = a * cosine - b * sine;
    head[job.half + c] = a * sine + b * cosine;
  }
  __syncwarp();
}

// One warp to a head of q, k or v of one token.
__global__ void __launch_bounds__(kStoreWarps * 32) storeHeads(const __grid_constant__ StoreJob job) {
  __shared__ SharedArray<float, kStoreWarps * kMostHeadDim> rows;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, token = static_cast<int>(blockIdx.y);
  int item = static_cast<int>(blockIdx.x) * kStoreWarps + warp;
  if (item >= job.items) return;
  const int n = job.headDim;
  Pointer<float> head = rows.pointer() + warp * kMostHeadDim;
  if (job.q && item < job.heads) {
    Pointer<float> q = job.q + (static_cast<int64_t>(token) * job.heads + item) * n;
    for (int c = lane; c < n; c += 32) head[c] = q[c];
    __syncwarp();
    turnHead(job, head, static_cast<bool>(job.qNorm), job.qNorm, token, item / (job.heads / job.kvHeads), lane);
    if (job.hadamard != 0) turnHadamard(head, n, job.hadamard, lane);
    for (int c = lane; c < n; c += 32) q[c] = head[c];
    if (!job.recent || token < job.tokens - job.recentRows) return;
    Pointer<float> kept = job.recent + (static_cast<int64_t>(job.positionIds[token] % job.recentRows) * job.heads + item) * n;
    for (int c = lane; c < n; c += 32) kept[c] = head[c];
    return;
  }
  if (job.q) item -= job.heads;
  const bool key = job.k && item < job.kvHeads;
  const int kvHead = job.k && !key ? item - job.kvHeads : item, slot = job.pages.lengths[kvHead] + token;
  const int64_t at = (static_cast<int64_t>(token) * job.kvHeads + kvHead) * n;
  if (key) {
    for (int c = lane; c < n; c += 32) head[c] = job.k[at + c];
    __syncwarp();
    turnHead(job, head, static_cast<bool>(job.kNorm), job.kNorm, token, kvHead, lane);
    if (job.hadamard != 0) turnHadamard(head, n, job.hadamard, lane);
  }
  Pointer<uint16_t> to = job.pages.slot<uint16_t>(key ? job.pages.keys : job.pages.values, kvHead, slot, n);
  for (int c = lane; c < n; c += 32) to[c] = floatToHalf(key ? static_cast<float>(head[c]) : static_cast<float>(job.v[at + c]));
  if (!key && lane == 0) job.pages.positions[kvHead * job.pages.positionStride + slot] = job.positionIds[token];
}

__global__ void advanceLengths(Pointer<int32_t> lengths, int count, int tokens) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) lengths[i] = lengths[i] + tokens;
}

// --- gather --------------------------------------------------------------------------------------------------------------

constexpr int kGatherThreads = 256, kGatherPieces = 4;  // a batch: 4 words of 4 bytes to a thread

struct GatherJob {
  Pages pages;
  Pointer<const int32_t> keep, kept;
  int64_t keepStride = 0;
  Pointer<float> columnSums;
  int64_t columnStride = 0;
  int headDim = 0;
};

// Slots move towards the front only. A batch of targets is read whole before it is written, and what later batches read lies at or
// behind their own targets: nothing is overwritten that is still wanted, and one block can do it in place. `place(slot, word)` is
// where word `word` of a slot lies.
template <class Word, class Place>
__device__ inline void moveSlots(Pointer<const int32_t> keep, int kept, int wordsPerSlot, Place place) {
  const int total = kept * wordsPerSlot, batch = kGatherThreads * kGatherPieces;
  for (int first = 0; first < total; first += batch) {
    Word held[kGatherPieces];
#pragma unroll
    for (int i = 0; i < kGatherPieces; ++i) {
      const int at = first + i * kGatherThreads + static_cast<int>(threadIdx.x);
      if (at < total) held[i] = *place(keep[at / wordsPerSlot], at % wordsPerSlot);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kGatherPieces; ++i) {
      const int at = first + i * kGatherThreads + static_cast<int>(threadIdx.x);
      if (at < total) *place(at / wordsPerSlot, at % wordsPerSlot) = held[i];
    }
    __syncthreads();
  }
}

// blockIdx.x: kv head; blockIdx.y: 0 keys, 1 values, 2 positions and column sums.
__global__ void __launch_bounds__(kGatherThreads) gatherPages(const __grid_constant__ GatherJob job) {
  const int head = static_cast<int>(blockIdx.x), side = static_cast<int>(blockIdx.y), kept = job.kept[head];
  Pointer<const int32_t> keep = job.keep + head * job.keepStride;
  if (side < 2) {
    Pointer<const uint64_t> table = side == 0 ? job.pages.keys : job.pages.values;
    if (!table) return;
    const auto place = [&](int slot, int word) { return job.pages.slot<uint32_t>(table, head, slot, job.headDim / 2) + word; };
    return moveSlots<uint32_t>(keep, kept, job.headDim / 2, place);
  }
  Pointer<int32_t> positions = job.pages.positions + head * job.pages.positionStride;
  moveSlots<int32_t>(keep, kept, 1, [&](int slot, int) { return positions + slot; });
  if (!job.columnSums) return;
  Pointer<float> sums = job.columnSums + head * job.columnStride;
  moveSlots<float>(keep, kept, 1, [&](int slot, int) { return sums + slot; });
  for (int i = kept + static_cast<int>(threadIdx.x); i < job.pages.lengths[head]; i += kGatherThreads) sums[i] = 0.0f;
}

}  // namespace winnow::cuda
