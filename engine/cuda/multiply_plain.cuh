// SPDX-License-Identifier: GPL-3.0-or-later
// Products of plain weights (f32, f16, bf16) with 1..8 tokens. A block takes 4 rows; its warps take turns along the columns, each lane
// 16 bytes of every row at a time, and their sums meet in shared memory in the order of the warps. One token: each block makes x for itself.
#pragma once
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/ptx.cuh"
#include "engine/cuda/row_input.cuh"

namespace winnow::cuda {

constexpr int kPlainRows = 4, kPlainWarps = 4;

struct PlainJob {
  Pointer<const float> f32;
  Pointer<const uint16_t> half;
  Pointer<const float> bias;
  Pointer<float> y;
  int64_t yStride = 0;
  int rows = 0, blocks = 0;
  bool accumulate = false;
};
struct PlainJobs {
  PlainJob job[kMostTargets];
  Pointer<const float> x;
  int64_t xStride = 0;
  int cols = 0;
};

template <Storage storage>
struct PlainWeights {
  static constexpr int kVector = storage == Storage::f32 ? 4 : 8;  // weights in 16 bytes
};

template <Storage storage, bool vector, int width>
__device__ inline void loadWeights(const PlainJob& job, int64_t at, float (&w)[width]) {
  if constexpr (!vector) {
    w[0] = storage == Storage::f32 ? static_cast<float>(job.f32[at])
                                   : storage == Storage::f16 ? halfToFloat(job.half[at]) : bf16ToFloat(job.half[at]);
  } else if constexpr (storage == Storage::f32) {
    const uint4 v = loadStream16(job.f32 + at);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = __uint_as_float(words[i]);
  } else {
    const uint4 v = loadStream16(job.half + at);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[2 * i] = storage == Storage::f16 ? lowHalf(words[i]) : __uint_as_float(words[i] << 16);
      w[2 * i + 1] = storage == Storage::f16 ? highHalf(words[i]) : __uint_as_float(words[i] & 0xffff0000u);
    }
  }
}

template <bool vector, int width>
__device__ inline void loadInputs(Pointer<const float> x, float (&v)[width]) {
  if constexpr (!vector) {
    v[0] = x[0];
  } else {
#pragma unroll
    for (int i = 0; i < width; i += 4) {
      const float4 four = load<float4>(x + i);
      v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
    }
  }
}

// Four rows, `block` counting through all targets. tokens: of x, at most T.
template <Storage storage, int T, bool vector>
__device__ inline void multiplyFourRows(const PlainJobs& jobs, Pointer<const float> input, int tokens, int block,
                                        SharedArray<float, kPlainWarps * kPlainRows * T>& sums) {
  constexpr int kWidth = vector ? PlainWeights<storage>::kVector : 1;
  int which = 0;
  while (block >= jobs.job[which].blocks) block -= jobs.job[which++].blocks;
  const PlainJob& job = jobs.job[which];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, firstRow = block * kPlainRows;
  const int cols = jobs.cols;
  float a[kPlainRows][T] = {};
#pragma unroll 2
  for (int k = (warp * 32 + lane) * kWidth; k < cols; k += kPlainWarps * 32 * kWidth) {
    float w[kPlainRows][kWidth];
#pragma unroll
    for (int r = 0; r < kPlainRows; ++r) {  // beyond the last row: the last once more
      const int row = min(firstRow + r, job.rows - 1);
      loadWeights<storage, vector>(job, static_cast<int64_t>(row) * cols + k, w[r]);
    }
#pragma unroll
    for (int t = 0; t < T; ++t) {
      if (t >= tokens) break;
      float x[kWidth];
      loadInputs<vector>(input + t * jobs.xStride + k, x);
#pragma unroll
      for (int r = 0; r < kPlainRows; ++r)
#pragma unroll
        for (int i = 0; i < kWidth; ++i) a[r][t] = fmaf(w[r][i], x[i], a[r][t]);
    }
  }
#pragma unroll
  for (int r = 0; r < kPlainRows; ++r)
#pragma unroll
    for (int t = 0; t < T; ++t) {
      const float sum = warpSum(a[r][t]);
      if (lane == 0) sums[(warp * kPlainRows + r) * T + t] = sum;
    }
  __syncthreads();
  const int r = static_cast<int>(threadIdx.x) % kPlainRows, t = static_cast<int>(threadIdx.x) / kPlainRows, row = firstRow + r;
  if (t >= tokens || row >= job.rows) return;
  float y = 0;
#pragma unroll
  for (int w = 0; w < kPlainWarps; ++w) y += sums[(w * kPlainRows + r) * T + t];
  if (job.bias) y += job.bias[row];
  const int64_t at = t * job.yStride + row;
  if (job.accumulate) y += job.y[at];
  job.y[at] = y;
}

template <Storage storage, int T, bool vector>
__global__ void __launch_bounds__(kPlainWarps * 32) multiplyPlainRows(const __grid_constant__ PlainJobs jobs, int tokens) {
  __shared__ SharedArray<float, kPlainWarps * kPlainRows * T> sums;
  multiplyFourRows<storage, T, vector>(jobs, jobs.x, tokens, static_cast<int>(blockIdx.x), sums);
}

template <Storage storage, bool vector>
__global__ void __launch_bounds__(kPlainWarps * 32)
multiplyPlainOneRow(const __grid_constant__ PlainJobs jobs, const __grid_constant__ RowSource source, int blocks) {
  __shared__ SharedArray<float, kPlainWarps * kPlainRows> sums;
  static_assert(kPlainWarps * kPlainRows >= 2 * kRowWarps);
  Pointer<float> x = dynamicShared<float>();
  makeRounded<kPlainWarps * 32>(source, x, sums.pointer());
  const int first = static_cast<int>(blockIdx.x) * source.perBlock, last = min(first + source.perBlock, blocks);
  for (int block = first; block < last; ++block) {
    multiplyFourRows<storage, 1, vector>(jobs, x, 1, block, sums);
    __syncthreads();  // sums are free again
  }
}

}  // namespace winnow::cuda
