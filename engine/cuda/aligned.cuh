// SPDX-License-Identifier: GPL-3.0-or-later
// How many bits decoding reads of pages in planes (engine/cache/planes.h; AlignedKV, section 3): of each channel of a page of keys, and of each
// slot of values, by the weights of the heads that a block has at hand. What that leaves unread is written down by the block that has a kv
// head's first query heads.
#pragma once
#include "engine/cache/planes.h"
#include "engine/cuda/device.cuh"

namespace winnow::cuda {

constexpr int kPlaneWarps = 4, kPlaneThreads = kPlaneWarps * 32, kPlaneHeads = 4;

// Over a block that has `pages` pages of `tokens` slots each, `count` slots in all.
struct PlaneChunk {
  int pages, tokens, count, headDim, step;
};

template <int mostPages, int mostDim>
using ChannelBits = SharedArray<uint16_t, mostPages * mostDim>;
using SlotBits = SharedArray<uint16_t, kPlaneThreads>;

__device__ inline int warpLargest(int v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = max(v, __shfl_xor_sync(kAllLanes, v, d));
  return v;
}

// A warp to a page. pageOf(page): its bytes, or null where it lies in rows. Returns, in each warp's lanes, the bytes its pages leave unread.
template <class Bits, class PageOf>
__device__ inline int keyBits(const PlaneChunk& chunk, Pointer<const float> q /* [group, headDim] */, int group, int stride, Bits& bits, PageOf pageOf) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, n = chunk.headDim;
  const PlaneRuns at(chunk.tokens, n, true);
  int unread = 0;
  for (int page = warp; page < chunk.pages; page += kPlaneWarps) {
    Pointer<const uint8_t> bytes = pageOf(page);
    if (!bytes) continue;
    const auto exponent = [&](int c) {
      int most = -1024;
      for (int g = 0; g < group; ++g) most = max(most, exponentOf(static_cast<float>(q[g * n + c])));
      return most + static_cast<int>(bytes[at.largest() + c]);
    };
    int top = -2048;
    for (int c = lane; c < n; c += 32) top = max(top, exponent(c));
    top = warpLargest(top);
    int saved = 0;
    for (int c = lane; c < n; c += 32) {
      const int needed = alignedBits(top - exponent(c), chunk.step);
      bits[page * stride + c] = static_cast<uint16_t>(needed);
      saved += 16 - needed;
    }
    unread += warpSum(saved) * chunk.tokens / 8;
  }
  return unread;
}

struct ProbeScratch {
  SharedArray<uint16_t, kProbes * kPlaneHeads> heaviest;  // slots
  SharedArray<int, kPlaneHeads> reaches;                 // exponents of weights
};

// A thread to a slot. weights [heads, kPlaneThreads]; highAt(slot, c): its first 8 bits; pageOf as above. Returns as keyBits does.
template <class Weights, class HighAt, class PageOf>
__device__ inline int slotBits(const PlaneChunk& chunk, int heads, Weights& weights, ProbeScratch& probes, SlotBits& bits, HighAt highAt, PageOf pageOf) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, n = chunk.headDim;
  const PlaneRuns at(chunk.tokens, n, false);
  if (warp < heads && lane < chunk.count) {
    int heaviest = lane;
    for (int i = lane; i < chunk.count; i += kProbes)
      if (static_cast<float>(weights[warp * kPlaneThreads + i]) > static_cast<float>(weights[warp * kPlaneThreads + heaviest])) heaviest = i;
    probes.heaviest[warp * kProbes + lane] = static_cast<uint16_t>(heaviest);
  }
  __syncthreads();
  if (warp < heads) {
    int reaches = 1 << 20;
    for (int c = lane; c < n; c += 32) {
      float sum = 0;
      for (int i = 0; i < min(kProbes, chunk.count); ++i) {
        const int slot = probes.heaviest[warp * kProbes + i];
        sum += static_cast<float>(weights[warp * kPlaneThreads + slot]) * magnitudeOf(highAt(slot, c));
      }
      int largest = 1;
      for (int page = 0; page < chunk.pages; ++page) {
        Pointer<const uint8_t> bytes = pageOf(page);
        if (bytes) largest = max(largest, static_cast<int>(bytes[at.largest() + c]));
      }
      reaches = min(reaches, exponentOf(sum) - 1 + kExponentBias - largest);
    }
    reaches = -warpLargest(-reaches);
    if (lane == 0) probes.reaches[warp] = reaches;
  }
  __syncthreads();
  int saved = 0;
  const bool inPlanes = thread < chunk.count && static_cast<bool>(pageOf(thread / chunk.tokens));
  if (inPlanes) {
    int needed = 8;
    for (int h = 0; h < heads; ++h) needed = max(needed, alignedBits(static_cast<int>(probes.reaches[h]) - exponentOf(static_cast<float>(weights[h * kPlaneThreads + thread])), chunk.step));
    bits[thread] = static_cast<uint16_t>(needed);
    saved = (16 - needed) * n / 8;
  }
  __syncthreads();
  return warpSum(saved);
}

}  // namespace winnow::cuda
