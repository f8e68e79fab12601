// SPDX-License-Identifier: GPL-3.0-or-later
// The best of a list of scores, found by one thread block digit by digit (8 bits) with histograms; of equals the earlier.
#pragma once
#include "engine/cuda/device.cuh"

namespace winnow::cuda {

constexpr int kSelectWarps = 8, kSelectThreads = kSelectWarps * 32;

struct SelectScratch {
  SharedArray<unsigned, 256> bins;
  SharedArray<unsigned, 2> found;
  SharedArray<int, kSelectWarps> votes;
};

__device__ inline uint32_t keyOf(float score) {  // orders like scores; zeros of either sign are one
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

struct Contest {  // of scores [first, end) so many are wanted
  int first, end, wanted;
};

struct Threshold {
  uint32_t key;    // of the last that is chosen
  unsigned above;  // that are better
};

__device__ inline Threshold lastChosen(const Contest& c, Pointer<const float> scores, SelectScratch& scratch) {
  Threshold last{0, 0};
  const int thread = static_cast<int>(threadIdx.x);
  for (int shift = 24; shift >= 0; shift -= 8) {
    scratch.bins[thread] = 0;
    __syncthreads();
    for (int i = c.first + thread; i < c.end; i += kSelectThreads) {
      const uint32_t key = keyOf(scores[i]);
      if (shift == 24 || key >> (shift + 8) == last.key) atomicAdd(scratch.bins.pointer() + (key >> shift & 255), 1u);
    }
    __syncthreads();
    if (thread < 32) {  // eight bins to a lane, from the top
      unsigned mine = 0;
      for (int i = 0; i < 8; ++i) mine += scratch.bins[255 - thread * 8 - i];
      unsigned upTo = mine;
#pragma unroll
      for (unsigned d = 1; d < 32; d *= 2) {
        const unsigned other = __shfl_up_sync(kAllLanes, upTo, d);
        if (thread >= static_cast<int>(d)) upTo += other;
      }
      unsigned sum = last.above + upTo - mine;
      const auto wanted = static_cast<unsigned>(c.wanted);
      if (sum < wanted && sum + mine >= wanted) {
        int bin = 255 - thread * 8;
        while (sum + scratch.bins[bin] < wanted) sum += scratch.bins[bin--];
        scratch.found[0] = static_cast<unsigned>(bin);
        scratch.found[1] = sum;
      }
    }
    __syncthreads();
    last = {last.key << 8 | static_cast<uint32_t>(scratch.found[0]), scratch.found[1]};
    __syncthreads();
  }
  return last;
}

struct Rank {
  int before, all;  // threads before this one that say yes, and all of them
};
__device__ inline Rank rankOf(bool yes, SharedArray<int, kSelectWarps>& votesOf) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t votes = __ballot_sync(kAllLanes, yes);
  __syncthreads();  // the last ones have been read
  if (lane == 0) votesOf[warp] = __popc(votes);
  __syncthreads();
  Rank rank{__popc(votes & ((1u << lane) - 1)), 0};
  for (int w = 0; w < kSelectWarps; ++w) {
    const int count = votesOf[w];
    if (w < warp) rank.before += count;
    rank.all += count;
  }
  return rank;
}

// take(index, rank) by one thread for each of the best, whose ranks ascend with the index. By kSelectThreads.
template <class Take>
__device__ inline void takeBest(const Contest& c, Pointer<const float> scores, SelectScratch& scratch, Take take) {
  const int thread = static_cast<int>(threadIdx.x);
  const bool all = c.wanted == c.end - c.first;
  Threshold last{0, 0};
  if (!all && c.wanted > 0) last = lastChosen(c, scores, scratch);
  const int equals = c.wanted - static_cast<int>(last.above);
  int taken = 0, ties = 0;
  for (int begin = c.first; begin < c.end && c.wanted > 0; begin += kSelectThreads) {
    const int i = begin + thread;
    bool better = i < c.end, equal = false;
    if (!all && better) {
      const uint32_t key = keyOf(scores[i]);
      better = key > last.key;
      equal = key == last.key;
    }
    const Rank tie = rankOf(equal, scratch.votes);
    const bool chosen = better || (equal && ties + tie.before < equals);
    const Rank rank = rankOf(chosen, scratch.votes);
    if (chosen) take(i, taken + rank.before);
    taken += rank.all;
    ties += tie.all;
  }
}

}  // namespace winnow::cuda
