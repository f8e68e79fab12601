// SPDX-License-Identifier: GPL-3.0-or-later
// Products with many tokens in f32, for what tensor cores do not multiply exactly: f32 weights, f32 inputs of 16-bit weights, rows that do
// not begin at 16 bytes. A block takes 64 rows times 64 tokens, a thread 4 times 4; 16 columns are summed on their own, so that no sum
// is a long chain.
#pragma once
#include "engine/cuda/gemm.cuh"

namespace winnow::cuda {

constexpr int kFmaRows = 64, kFmaTokens = 64, kFmaDepth = 16, kFmaThreads = 256, kFmaStride = kFmaRows + 4;
using FmaTile = SharedArray<float, kFmaDepth * kFmaStride>;  // [column][row or token]

template <Storage storage>
__device__ inline float plainWeight(const MatrixView& w, int64_t at) {
  if constexpr (storage == Storage::f32) return w.f32[at];
  return storage == Storage::f16 ? halfToFloat(w.half[at]) : bf16ToFloat(w.half[at]);
}

template <Storage storage>
__global__ void __launch_bounds__(kFmaThreads) gemmFma(const __grid_constant__ GemmJobs jobs) {
  __shared__ FmaTile weights, inputs;
  int block = static_cast<int>(blockIdx.y), which = 0;
  while (block >= jobs.job[which].blocks) block -= jobs.job[which++].blocks;
  const GemmJob& job = jobs.job[which];
  const int firstRow = block * kFmaRows, firstToken = static_cast<int>(blockIdx.x) * kFmaTokens;
  const int thread = static_cast<int>(threadIdx.x), row4 = thread % 16 * 4, token4 = thread / 16 * 4;
  float total[4][4] = {};
  for (int begin = 0; begin < jobs.cols; begin += kFmaDepth) {
#pragma unroll
    for (int i = 0; i < kFmaRows * kFmaDepth / kFmaThreads; ++i) {
      const int item = thread + i * kFmaThreads, other = item / kFmaDepth, column = item % kFmaDepth, k = begin + column;
      const int row = firstRow + other, token = firstToken + other;
      const bool inside = k < jobs.cols;
      weights[column * kFmaStride + other] =
          inside && row < job.w.rows ? plainWeight<storage>(job.w, static_cast<int64_t>(row) * jobs.cols + k) : 0.0f;
      inputs[column * kFmaStride + other] = inside && token < jobs.tokens ? static_cast<float>(jobs.x[token * jobs.xStride + k]) : 0.0f;
    }
    __syncthreads();
    float part[4][4] = {};
#pragma unroll
    for (int k = 0; k < kFmaDepth; ++k) {
      const float4 w = load<float4>(weights.pointer() + k * kFmaStride + row4), x = load<float4>(inputs.pointer() + k * kFmaStride + token4);
      const float ws[4] = {w.x, w.y, w.z, w.w}, xs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) part[i][j] = fmaf(ws[i], xs[j], part[i][j]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) total[i][j] += part[i][j];
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = firstRow + row4 + i, token = firstToken + token4 + j;
      if (row >= job.w.rows || token >= jobs.tokens) continue;
      float y = total[i][j];
      if (job.bias) y += job.bias[row];
      const int64_t to = token * job.yStride + row;
      if (job.accumulate) y += job.y[to];
      job.y[to] = y;
    }
}

}  // namespace winnow::cuda
