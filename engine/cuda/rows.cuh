// SPDX-License-Identifier: GPL-3.0-or-later
// Kernels over rows of activations: embedding, norms, activation functions. Each is a few hundred nanoseconds of work; what they cost
// on a device is their launch, so they read and write each value once and leave it at that.
#pragma once
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/row_values.cuh"

namespace winnow::cuda {

__global__ void embedRows(MatrixView embedding, MatrixView positions, bool learned, Pointer<const int32_t> tokens,
                          Pointer<const int32_t> positionIds, Pointer<float> out) {
  const int t = static_cast<int>(blockIdx.x), token = tokens[t];
  for (int k = static_cast<int>(threadIdx.x); k < embedding.cols; k += kRowThreads) {
    float x = weightAt(embedding, token, k);
    if (learned) x += weightAt(positions, positionIds[t], k);
    out[static_cast<int64_t>(t) * embedding.cols + k] = x;
  }
}

__global__ void rmsNormRows(Pointer<const float> x, Pointer<const float> weight, float eps, int n, Pointer<float> out) {
  __shared__ RowScratch scratch;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * n;
  const RowNorm norm = rmsOf(x + row, eps, n, scratch.pointer());
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads) out[row + i] = rmsValue(x[row + i], norm, weight[i]);
}

__global__ void layerNormRows(Pointer<const float> x, Pointer<const float> weight, Pointer<const float> bias, float eps, int n,
                              Pointer<float> out) {
  __shared__ RowScratch scratch;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * n;
  const RowNorm norm = layerOf(x + row, eps, n, scratch.pointer());
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kRowThreads)
    out[row + i] = layerValue(x[row + i], norm, weight[i], bias ? static_cast<float>(bias[i]) : 0.0f);
}

__global__ void activateRows(Activation kind, Pointer<float> gate, Pointer<const float> up, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i >= count) return;
  gate[i] = up ? activated(kind, gate[i], up[i]) : squashed(kind, gate[i]);
}

struct CorrectJob {
  Pointer<const float> x, up;  // as in Source
  Pointer<float> y;            // [tokens, yStride]
  int64_t stride = 0, yStride = 0;
  bool activates = false;
  Activation activation{};
  int tokens = 0, count = 0;
  WeightCorrection list[kMostCorrections] = {};
};

// A thread to a token: corrections of one row add up in the order of the list.
__global__ void correctRows(const __grid_constant__ CorrectJob job) {
  const int t = static_cast<int>(blockIdx.x) * kRowThreads + static_cast<int>(threadIdx.x);
  if (t >= job.tokens) return;
  for (int i = 0; i < job.count; ++i) {
    const WeightCorrection& weight = job.list[i];
    float v = job.x[t * job.stride + weight.column];
    if (job.activates) v = job.up ? activated(job.activation, v, job.up[t * job.stride + weight.column]) : squashed(job.activation, v);
    job.y[t * job.yStride + weight.row] += weight.delta * v;
  }
}

}  // namespace winnow::cuda
