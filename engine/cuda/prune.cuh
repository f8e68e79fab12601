// SPDX-License-Identifier: GPL-3.0-or-later
// Magnitude pruning, exact: the threshold is found digit by digit (11, 10 and 10 bits of the magnitude) with histograms, ties are counted
// by row and given to the first rows, and within a row to the first columns. All counts are integers: their order does not matter.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

constexpr int kPruneThreads = 256, kPruneBins = 2048;
using Count = unsigned long long;

struct PruneJob {
  Pointer<float> weights;        // [rows, cols]
  Pointer<Count> bins;           // [3][kPruneBins]
  Pointer<Count> state;          // [0] digits found so far, [1] weights below them
  Pointer<Count> ties;           // [rows], then the quota of each row
  Count target = 0;
  int rows = 0, cols = 0;
};

__device__ inline uint32_t magnitudeOf(float w) { return __float_as_uint(w) & 0x7fffffffu; }  // orders like |w|
__device__ inline int shiftOf(int level) { return 20 - 10 * level; }
__device__ inline uint32_t digitMask(int level) { return level == 0 ? 0x7ffu : 0x3ffu; }

__global__ void clearPrune(const __grid_constant__ PruneJob job) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < 3 * kPruneBins) job.bins[i] = 0;
  if (i < 2) job.state[i] = 0;
}

__global__ void __launch_bounds__(kPruneThreads) countMagnitudes(const __grid_constant__ PruneJob job, int level) {
  __shared__ SharedArray<unsigned, kPruneBins> bins;
  for (int i = static_cast<int>(threadIdx.x); i < kPruneBins; i += kPruneThreads) bins[i] = 0;
  __syncthreads();
  const int64_t total = static_cast<int64_t>(job.rows) * job.cols, step = static_cast<int64_t>(gridDim.x) * kPruneThreads;
  const uint32_t prefix = static_cast<uint32_t>(static_cast<Count>(job.state[0])), mask = digitMask(level);
  const int shift = shiftOf(level);
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kPruneThreads + threadIdx.x; i < total; i += step) {
    const uint32_t m = magnitudeOf(job.weights[i]);
    if (level == 0 || m >> (shift + 10) == prefix) atomicAdd(bins.pointer() + (m >> shift & mask), 1u);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kPruneBins; i += kPruneThreads) {
    const unsigned n = bins[i];
    if (n) atomicAdd(job.bins + (level * kPruneBins + i), Count{n});
  }
}

// The bin in which the running count reaches the target; one warp.
__global__ void pickDigit(const __grid_constant__ PruneJob job, int level) {
  const int lane = static_cast<int>(threadIdx.x), each = kPruneBins / 32;
  Pointer<const Count> bins = job.bins + level * kPruneBins;
  Count mine = 0;
  for (int i = 0; i < each; ++i) mine += bins[lane * each + i];
  Count upTo = mine;
#pragma unroll
  for (unsigned d = 1; d < 32; d *= 2) {
    const Count other = __shfl_up_sync(kAllLanes, upTo, d);
    if (lane >= static_cast<int>(d)) upTo += other;
  }
  const Count prefix = job.state[0], below = job.state[1];
  __syncwarp();
  Count sum = below + upTo - mine;
  if (sum >= job.target || sum + mine < job.target) return;
  int bin = lane * each;
  while (sum + bins[bin] < job.target) sum += bins[bin++];
  job.state[0] = prefix << (level == 0 ? 11 : 10) | static_cast<Count>(bin);
  job.state[1] = sum;
}

__global__ void __launch_bounds__(kPruneThreads) countTies(const __grid_constant__ PruneJob job) {
  __shared__ SharedArray<int, kPruneThreads / 32> scratch;
  const uint32_t threshold = static_cast<uint32_t>(static_cast<Count>(job.state[0]));
  const int row = static_cast<int>(blockIdx.x);
  int ties = 0;
  for (int c = static_cast<int>(threadIdx.x); c < job.cols; c += kPruneThreads)
    ties += magnitudeOf(job.weights[static_cast<int64_t>(row) * job.cols + c]) == threshold;
  ties = blockSum<kPruneThreads / 32>(ties, scratch);
  if (threadIdx.x == 0) job.ties[row] = static_cast<Count>(ties);
}

// Row by row until none are left; one warp, 32 rows at a time.
__global__ void shareTies(const __grid_constant__ PruneJob job) {
  const int lane = static_cast<int>(threadIdx.x);
  Count left = job.target - job.state[1];
  for (int first = 0; first < job.rows; first += 32) {
    const int row = first + lane;
    const Count mine = row < job.rows ? static_cast<Count>(job.ties[row]) : Count{0};
    Count upTo = mine;
#pragma unroll
    for (unsigned d = 1; d < 32; d *= 2) {
      const Count other = __shfl_up_sync(kAllLanes, upTo, d);
      if (lane >= static_cast<int>(d)) upTo += other;
    }
    const Count before = upTo - mine, quota = before >= left ? 0 : left - before < mine ? left - before : mine;
    if (row < job.rows) job.ties[row] = quota;
    const Count all = __shfl_sync(kAllLanes, upTo, 31);
    left = all >= left ? 0 : left - all;
  }
}

// One warp to a row, in the order of the columns.
__global__ void __launch_bounds__(kPruneThreads) zeroSmall(const __grid_constant__ PruneJob job) {
  const int row = static_cast<int>(blockIdx.x) * (kPruneThreads / 32) + static_cast<int>(threadIdx.x) / 32,
            lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= job.rows) return;
  const uint32_t threshold = static_cast<uint32_t>(static_cast<Count>(job.state[0]));
  const int quota = static_cast<int>(static_cast<Count>(job.ties[row]));
  int seen = 0;
  for (int first = 0; first < job.cols; first += 32) {
    const int c = first + lane;
    const int64_t at = static_cast<int64_t>(row) * job.cols + c;
    const uint32_t m = c < job.cols ? magnitudeOf(job.weights[at]) : 0xffffffffu;
    const uint32_t ties = __ballot_sync(kAllLanes, m == threshold);
    const int rank = seen + __popc(ties & ((1u << lane) - 1));
    if (m < threshold || (m == threshold && rank < quota)) job.weights[at] = 0.0f;
    seen += __popc(ties);
  }
}

}  // namespace winnow::cuda
