// SPDX-License-Identifier: GPL-3.0-or-later
// What norms and activation functions make of a row, for kernels that store it and kernels that make a product's input of it.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

constexpr int kRowThreads = 256, kRowWarps = kRowThreads / 32;
using RowScratch = SharedArray<float, 2 * kRowWarps>;

// A norm of a row by one block: (x - mean) * scale is what it weighs. The row is read again rather than kept: it is in the first-level
// cache.
struct RowNorm {
  float mean = 0, scale = 1;
};
// add(sum, k) over k < n by a block of `threads`, which may be fewer than kRowThreads: a thread stands for several then, so that the sum is
// the same to the bit. scratch: [kRowWarps] of shared memory, free again when the next barrier has passed.
template <int threads, class Add>
__device__ inline float sumOfRow(int n, Pointer<float> scratch, Add add) {
  constexpr int kParts = kRowThreads / threads;
  const int thread = static_cast<int>(threadIdx.x);
  float own[kParts] = {};
  for (int first = thread; first < n; first += kRowThreads)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
      if (first + i * threads < n) own[i] = add(own[i], first + i * threads);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    own[i] = warpSum(own[i]);
    if (thread % 32 == 0) scratch[(thread + i * threads) / 32] = own[i];
  }
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < kRowWarps; ++i) sum += scratch[i];
  return sum;
}
template <int threads = kRowThreads>
__device__ inline RowNorm rmsOf(Pointer<const float> x, float eps, int n, Pointer<float> scratch) {
  const auto square = [x](float sum, int i) {
    const float v = x[i];
    return fmaf(v, v, sum);
  };
  return {0, 1.0f / sqrtf(sumOfRow<threads>(n, scratch, square) / static_cast<float>(n) + eps)};
}
template <int threads = kRowThreads>
__device__ inline RowNorm layerOf(Pointer<const float> x, float eps, int n, Pointer<float> scratch /* [2 kRowWarps] */) {
  const float mean = sumOfRow<threads>(n, scratch, [x](float sum, int i) { return sum + x[i]; }) / static_cast<float>(n);
  const auto square = [x, mean](float sum, int i) {
    const float v = x[i] - mean;
    return fmaf(v, v, sum);
  };
  return {mean, 1.0f / sqrtf(sumOfRow<threads>(n, scratch + kRowWarps, square) / static_cast<float>(n) + eps)};
}
__device__ inline float rmsValue(float x, const RowNorm& norm, float weight) { return x * norm.scale * weight; }
__device__ inline float layerValue(float x, const RowNorm& norm, float weight, float bias) {
  return fmaf((x - norm.mean) * norm.scale, weight, bias);
}

__device__ inline float squashed(Activation kind, float x) {
  if (kind == Activation::silu) return x / (1.0f + expf(-x));
  if (kind == Activation::geluTanh) {  // (1 + tanh u) / 2 = 1 / (1 + exp(-2u))
    const float twice = x * fmaf(x * x, 2 * 0.7978845608f * 0.044715f, 2 * 0.7978845608f);
    return x / (1.0f + expf(-twice));
  }
  return 0.5f * x * erfcf(-0.7071067812f * x);
}
__device__ inline float activated(Activation kind, float gate, float up) { return squashed(kind, gate) * up; }

}  // namespace winnow::cuda
