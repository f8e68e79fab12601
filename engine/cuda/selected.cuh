// SPDX-License-Identifier: GPL-3.0-or-later
// Quest's kernels. A query's choice is one launch: warps score the blocks of a kv head, and the last of its thread blocks finds the best of
// them. What varies is read from device memory.
#pragma once
#include "engine/cache/blocks_read.h"
#include "engine/cuda/arrive.cuh"
#include "engine/cuda/best_of.cuh"
#include "engine/cuda/sealed_row.cuh"

namespace winnow::cuda {

constexpr int kBoundWarps = 4, kPlaceThreads = 128;

struct BoundJob {
  Pages pages;
  PageLayout page;
  Pointer<const PageForm> forms;  // of keys, or null
  Pointer<uint16_t> bounds;
  int first = 0, end = 0, blockStride = 0;
};

// A warp to a block of slots.
__global__ void __launch_bounds__(kBoundWarps * 32, 4) boundBlocks(const __grid_constant__ BoundJob job) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, head = static_cast<int>(blockIdx.y);
  const int block = job.first + static_cast<int>(blockIdx.x) * kBoundWarps + warp, n = job.page.headDim, begin = block * kBlockSlots;
  if (block >= job.end || begin + kBlockSlots > job.pages.lengths[head]) return;
  const int entry = head * job.pages.pageStride + begin / job.page.tokens;
  PageForm form;
  if (job.forms) form = job.forms[entry];
  Pointer<uint16_t> out = job.bounds + (static_cast<int64_t>(head) * job.blockStride + block) * 2 * n;
  for (int c = lane; c < n; c += 32) {
    float largest = -INFINITY, smallest = INFINITY;
    for (int i = 0; i < kBlockSlots; ++i) {
      const float x = halfToFloat(valueAt(job.page, slotRow(job.page, job.pages.keys, form, entry, begin % job.page.tokens + i), c));
      largest = fmaxf(largest, x);
      smallest = fminf(smallest, x);
    }
    out[c] = floatToHalf(largest);  // exact
    out[n + c] = floatToHalf(smallest);
  }
}

// --- the choice ----------------------------------------------------------------------------------------------------------

struct SelectJob {
  Pages pages;
  Pointer<const float> q;
  Pointer<const uint16_t> bounds;
  Pointer<float> scores;
  Pointer<int32_t> blocks, slots;  // chosen
  Pointer<uint32_t> tickets;
  double budget = 0;
  int blockStride = 0, scoreStride = 0, most = 0, group = 0, headDim = 0, added = 0, window = 0;
};

struct Candidates {  // of a head: blocks [first, newest), of which `wanted` are chosen besides the newest
  int tokens, first, newest, wanted;
};

__device__ inline Candidates candidatesOf(const SelectJob& job, int head) {
  Candidates c;
  c.tokens = job.pages.lengths[head] + job.added;
  c.newest = blocksOf(c.tokens) - 1;
  c.first = 0;
  if (job.window > 0) {  // the first slot that is seen
    Pointer<const int32_t> positions = job.pages.positions + head * job.pages.positionStride;
    const int oldest = positions[c.tokens - 1] - job.window;
    int low = 0, high = c.tokens - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (positions[middle] <= oldest)
        low = middle + 1;
      else
        high = middle;
    }
    c.first = low / kBlockSlots;
  }
  c.wanted = min(blocksRead(job.budget, c.tokens) - 1, c.newest - c.first);
  return c;
}

// What no query head of the group can score above in a block; lanes take two components at once.
__device__ inline float boundOf(const SelectJob& job, int head, int block, int lane) {
  constexpr int kPairs = kMostHeadDim / 64;
  const int n = job.headDim;
  Pointer<const uint16_t> row = job.bounds + (static_cast<int64_t>(head) * job.blockStride + block) * 2 * n;
  uint32_t large[kPairs] = {}, small[kPairs] = {};
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int c = 2 * lane + 64 * i;
    if (c >= n) continue;
    large[i] = load<uint32_t>(row + c);
    small[i] = load<uint32_t>(row + n + c);
  }
  float best = -INFINITY;
  for (int h = head * job.group; h < (head + 1) * job.group; ++h) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int c = 2 * lane + 64 * i;
      if (c >= n) continue;
      const float x = job.q[h * n + c], y = job.q[h * n + c + 1];
      sum = fmaf(x, lowHalf(x > 0 ? large[i] : small[i]), sum);
      sum = fmaf(y, highHalf(y > 0 ? large[i] : small[i]), sum);
    }
    best = fmaxf(best, warpSum(sum));
  }
  return best;
}

__device__ inline void chooseBlocks(const SelectJob& job, const Candidates& c, int head) {
  __shared__ SelectScratch scratch;
  Pointer<int32_t> out = job.blocks + head * job.most;
  takeBest({c.first, c.newest, c.wanted}, job.scores + static_cast<int64_t>(head) * job.scoreStride, scratch, [&](int block, int rank) { out[rank] = block; });
  if (threadIdx.x != 0) return;
  out[c.wanted] = c.newest;
  job.slots[head] = c.wanted * kBlockSlots + c.tokens - c.newest * kBlockSlots;
}

// blockIdx.y: kv head.
__global__ void __launch_bounds__(kSelectThreads) scoreAndChoose(const __grid_constant__ SelectJob job) {
  __shared__ SharedArray<uint32_t, 1> last;
  const int head = static_cast<int>(blockIdx.y), warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Candidates c = candidatesOf(job, head);
  const int warps = static_cast<int>(gridDim.x) * kSelectWarps;
  for (int block = c.first + static_cast<int>(blockIdx.x) * kSelectWarps + warp; block < c.newest; block += warps) {
    const float bound = boundOf(job, head, block, lane);
    if (lane == 0) job.scores[static_cast<int64_t>(head) * job.scoreStride + block] = bound;
  }
  if (arrivesLast(job.tickets + head, gridDim.x, last)) chooseBlocks(job, c, head);
}

// --- for attention -------------------------------------------------------------------------------------------------------

struct PlaceJob {
  Pages pages;
  PageLayout page;
  Pointer<const PageForm> keyForms, valueForms;
  Pointer<const int32_t> blocks, slots;
  Pointer<uint32_t> rows;
  Pointer<uint64_t> tables;
  Pointer<int32_t> positions;
  uint64_t address = 0;  // of rows
  int most = 0, kvHeads = 0;
};

// blockIdx.x: of the chosen blocks; blockIdx.y: kv head; blockIdx.z: 0 keys, 1 values.
__global__ void __launch_bounds__(kPlaceThreads) placeChosen(const __grid_constant__ PlaceJob job) {
  const int i = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), side = static_cast<int>(blockIdx.z), thread = static_cast<int>(threadIdx.x);
  Pointer<const uint64_t> table = side == 0 ? job.pages.keys : job.pages.values;
  if (!table || i * kBlockSlots >= job.slots[head]) return;
  const int begin = job.blocks[head * job.most + i] * kBlockSlots, entry = head * job.pages.pageStride + begin / job.page.tokens;
  const int own = begin % job.page.tokens, half = job.page.headDim / 2, words = kBlockSlots * half, to = (side * job.kvHeads + head) * job.most + i;
  PageForm form;
  if (job.valueForms) form = (side == 0 ? job.keyForms : job.valueForms)[entry];
  const bool sealed = isSealed(form);
  const auto unpacked = job.address + static_cast<uint64_t>(to) * static_cast<uint64_t>(words) * 4;
  if (thread == 0) job.tables[to] = sealed ? unpacked : table[entry] + static_cast<uint64_t>(own * half) * 4;
  if (side == 1 && job.positions && thread < min(kBlockSlots, job.slots[head] - i * kBlockSlots))
    job.positions[(head * job.most + i) * kBlockSlots + thread] = job.pages.positions[head * job.pages.positionStride + begin + thread];
  if (!sealed) return;
  Pointer<uint32_t> rows = job.rows + static_cast<int64_t>(to) * words;
  for (int w = thread; w < words; w += kPlaceThreads) {
    const SlotRow row = slotRow(job.page, table, form, entry, own + w / half);
    const int c = w % half * 2;
    rows[w] = valueAt(job.page, row, c) | static_cast<uint32_t>(valueAt(job.page, row, c + 1)) << 16;
  }
}

}  // namespace winnow::cuda
