// SPDX-License-Identifier: GPL-3.0-or-later
// What norms and activation functions make of a row, for kernels that store it and kernels that make a product's input of it.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

constexpr int kRowThreads = 256, kRowWarps = kRowThreads / 32;
using RowScratch = SharedArray<float, kRowWarps>;

// A norm of a row by one block: (x - mean) * scale is what it weighs. The row is read again rather than kept: it is in the first-level
// cache.
struct RowNorm {
  float mean = 0, scale = 1;
};
__device__ inline RowNorm rmsOf(Pointer<const float> x, float eps, int n, RowScratch& scratch) {
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) {
    const float v = x[i];
    squares = fmaf(v, v, squares);
  }
  return {0, 1.0f / sqrtf(blockSum<kRowWarps>(squares, scratch) / static_cast<float>(n) + eps)};
}
__device__ inline RowNorm layerOf(Pointer<const float> x, float eps, int n, RowScratch& sums, RowScratch& squares) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) sum += x[i];
  const float mean = blockSum<kRowWarps>(sum, sums) / static_cast<float>(n);
  float square = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) {
    const float v = x[i] - mean;
    square = fmaf(v, v, square);
  }
  return {mean, 1.0f / sqrtf(blockSum<kRowWarps>(square, squares) / static_cast<float>(n) + eps)};
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
