// SPDX-License-Identifier: GPL-3.0-or-later
// CritiPrefill's kernels: the center of a segment's queries, what each block of keys is worth to it, and the choice.
#pragma once
#include "engine/cache/blocks_read.h"
#include "engine/cuda/best_of.cuh"
#include "engine/cuda/sealed_row.cuh"

namespace winnow::cuda {

constexpr int kCenterThreads = 128, kWorthWarps = 4;

struct CriticalJob {
  Pages pages;
  PageLayout page;
  Pointer<const PageForm> forms;  // of keys, or null
  Pointer<const float> q;
  Pointer<float> centers, fresh, worth;
  Pointer<int32_t> blocks, taken, counts, slots;
  int queries = 0, heads = 0, group = 0, headDim = 0, before = 0, count = 0, stride = 0, window = 0;
  float scale = 0;
  bool mixes = false;
  __device__ int candidates() const { return (before + kCriticalSlots - 1) / kCriticalSlots; }
};

// blockIdx.x: head. The middle between the largest and the smallest of each component, scaled as scores are.
__global__ void __launch_bounds__(kCenterThreads) queryCenters(const __grid_constant__ CriticalJob job) {
  const int head = static_cast<int>(blockIdx.x), n = job.headDim;
  for (int c = static_cast<int>(threadIdx.x); c < n; c += kCenterThreads) {
    float largest = -INFINITY, smallest = INFINITY;
#pragma unroll 4
    for (int i = 0; i < job.queries; ++i) {
      const float x = job.q[(static_cast<int64_t>(i) * job.heads + head) * n + c];
      largest = fmaxf(largest, x);
      smallest = fminf(smallest, x);
    }
    job.centers[head * n + c] = (largest + smallest) * 0.5f * job.scale;
  }
}

// A warp to a block of slots; blockIdx.y: kv head.
__global__ void __launch_bounds__(kWorthWarps * 32) blockWorths(const __grid_constant__ CriticalJob job) {
  constexpr int kParts = kMostHeadDim / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, head = static_cast<int>(blockIdx.y);
  const int block = static_cast<int>(blockIdx.x) * kWorthWarps + warp, n = job.headDim;
  if (block >= job.candidates()) return;
  float largest[kParts], smallest[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) largest[i] = -INFINITY, smallest[i] = INFINITY;
  for (int slot = block * kCriticalSlots; slot < min((block + 1) * kCriticalSlots, job.before); ++slot) {
    const int entry = head * job.pages.pageStride + slot / job.page.tokens;
    PageForm form;
    if (job.forms) form = job.forms[entry];
    const SlotRow row = slotRow(job.page, job.pages.keys, form, entry, slot % job.page.tokens);
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int c = lane + 32 * i;
      if (c >= n) continue;
      const float x = halfToFloat(valueAt(job.page, row, c));
      largest[i] = fmaxf(largest[i], x);
      smallest[i] = fminf(smallest[i], x);
    }
  }
  float worth = 0;
  for (int h = head * job.group; h < (head + 1) * job.group; ++h) {
    float high = 0, low = 0;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int c = lane + 32 * i;
      if (c >= n) continue;
      const float center = job.centers[h * n + c];
      high = fmaf(center, largest[i], high);
      low = fmaf(center, smallest[i], low);
    }
    worth += fmaxf(warpSum(high), warpSum(low));
  }
  if (lane == 0) job.fresh[static_cast<int64_t>(head) * job.stride + block] = worth / static_cast<float>(job.group);
}

// The first block that a window leaves in sight of the segment.
__device__ inline int firstInSight(const CriticalJob& job, int head) {
  if (job.window <= 0) return 0;
  Pointer<const int32_t> positions = job.pages.positions + head * job.pages.positionStride;
  const int oldest = positions[job.before] - job.window;
  int low = 0, high = job.before;  // the first slot behind `oldest`
  while (low < high) {
    const int middle = (low + high) / 2;
    if (positions[middle] <= oldest)
      low = middle + 1;
    else
      high = middle;
  }
  return low / kCriticalSlots;
}

// blockIdx.x: kv head. A softmax over its blocks, mixed with that of the layer below; block 0 and the best of the others stay.
__global__ void __launch_bounds__(kSelectThreads, 4) chooseCriticalBlocks(const __grid_constant__ CriticalJob job) {
  __shared__ SelectScratch scratch;
  __shared__ SharedArray<float, kSelectWarps> largests;
  __shared__ SharedArray<float, kSelectWarps> sums;
  const int head = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x), blocks = job.candidates();
  const int64_t row = static_cast<int64_t>(head) * job.stride;
  float largest = -INFINITY, sum = 0;
  for (int i = thread; i < blocks; i += kSelectThreads) largest = fmaxf(largest, job.fresh[row + i]);
  largest = blockMax(largest, largests);
  for (int i = thread; i < blocks; i += kSelectThreads) sum += expf(job.fresh[row + i] - largest);
  const float share = 1 / blockSum(sum, sums);
  for (int i = thread; i < blocks; i += kSelectThreads) {
    const float fresh = expf(job.fresh[row + i] - largest) * share;
    job.worth[row + i] = job.mixes ? kCriticalFromBelow * job.worth[row + i] + (1 - kCriticalFromBelow) * fresh : fresh;
    job.taken[row + i] = i == 0 ? 1 : 0;
  }
  __syncthreads();
  Contest contest{max(firstInSight(job, head), 1), blocks, 0};
  contest.wanted = max(min(job.count - 1, blocks - contest.first), 0);
  takeBest(contest, job.worth + row, scratch, [&](int block, int rank) {
    job.blocks[row + 1 + rank] = block;
    job.taken[row + block] = 1;
  });
  __syncthreads();
  if (thread != 0) return;
  job.blocks[row] = 0;
  job.counts[head] = contest.wanted + 1;
  job.slots[head] = (contest.wanted + 1) * kCriticalSlots - (job.taken[row + blocks - 1] != 0 ? blocks * kCriticalSlots - job.before : 0);
}

}  // namespace winnow::cuda
