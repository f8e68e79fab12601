// SPDX-License-Identifier: GPL-3.0-or-later
// Kernels over rows of activations: embedding, norms, activation functions. Each is a few hundred nanoseconds of work; what they cost
// on a device is their launch, so they read and write each value once and leave it at that.
#pragma once
#include "engine/cuda/matrix.cuh"

namespace winnow::cuda {

constexpr int kRowThreads = 256, kRowWarps = kRowThreads / 32;

__global__ void embedRows(MatrixView embedding, MatrixView positions, bool learned, Pointer<const int32_t> tokens,
                          Pointer<const int32_t> positionIds, Pointer<float> out) {
  const int t = static_cast<int>(blockIdx.x), token = tokens[t];
  for (int k = static_cast<int>(threadIdx.x); k < embedding.cols; k += kRowThreads) {
    float x = weightAt(embedding, token, k);
    if (learned) x += weightAt(positions, positionIds[t], k);
    out[static_cast<int64_t>(t) * embedding.cols + k] = x;
  }
}

// One block to a row. The row is read again rather than kept: it is in the first-level cache.
__global__ void rmsNormRows(Pointer<const float> x, Pointer<const float> weight, float eps, int n, Pointer<float> out) {
  __shared__ SharedArray<float, kRowWarps> scratch;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * n;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) {
    const float v = x[row + i];
    squares = fmaf(v, v, squares);
  }
  const float mean = blockSum<kRowWarps>(squares, scratch) / static_cast<float>(n), scale = 1.0f / sqrtf(mean + eps);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) out[row + i] = x[row + i] * scale * weight[i];
}

__global__ void layerNormRows(Pointer<const float> x, Pointer<const float> weight, Pointer<const float> bias, float eps, int n,
                              Pointer<float> out) {
  __shared__ SharedArray<float, kRowWarps> sums, squares;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * n;
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) sum += x[row + i];
  const float mean = blockSum<kRowWarps>(sum, sums) / static_cast<float>(n);
  float square = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) {
    const float v = x[row + i] - mean;
    square = fmaf(v, v, square);
  }
  const float scale = 1.0f / sqrtf(blockSum<kRowWarps>(square, squares) / static_cast<float>(n) + eps);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads)
    out[row + i] = fmaf((x[row + i] - mean) * scale, weight[i], bias ? bias[i] : 0.0f);
}

__device__ inline float squashed(Activation kind, float x) {
  if (kind == Activation::silu) return x / (1.0f + expf(-x));
  if (kind == Activation::geluTanh) {  // (1 + tanh u) / 2 = 1 / (1 + exp(-2u))
    const float twice = x * fmaf(x * x, 2 * 0.7978845608f * 0.044715f, 2 * 0.7978845608f);
    return x / (1.0f + expf(-twice));
  }
  return 0.5f * x * erfcf(-0.7071067812f * x);
}

__global__ void activateRows(Activation kind, Pointer<float> gate, Pointer<const float> up, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i >= count) return;
  const float y = squashed(kind, gate[i]);
  gate[i] = up ? y * up[i] : y;
}

}  // namespace winnow::cuda
