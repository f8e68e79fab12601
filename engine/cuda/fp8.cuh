// SPDX-License-Identifier: GPL-3.0-or-later
// Rows to E4M3 codes and a scale each, and both scales put to the sums of their products.
#pragma once
#include "engine/cuda/fp8.h"
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/prepare.cuh"

namespace winnow::cuda {

constexpr float kMostE4M3 = 448;
constexpr int kEncodeWarps = 8;

__device__ inline uint32_t codeE4M3(float x) {
  const uint32_t bits = __float_as_uint(x), sign = bits >> 24 & 0x80, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return sign | 0x7f;  // no number
  const float magnitude = fminf(__uint_as_float(size), kMostE4M3);
  if (magnitude < 0x1p-6f) return sign | static_cast<uint32_t>(rintf(magnitude * 0x1p9f));  // subnormal: multiples of 2^-9
  const uint32_t u = __float_as_uint(magnitude);
  return sign | (((u + 0x7ffffu + (u >> 20 & 1)) >> 20) - ((127 - 7) << 3));
}
// Of a row whose largest magnitude is `most`, and what its values are multiplied by. Below normal numbers all are zeros. An infinity makes the inverse
// zero, by which it is no number, and finite values are zero.
struct RowScale {
  float scale = 0, inverse = 0;
};
__device__ inline RowScale scaleOf(float most) {
  const float scale = most / kMostE4M3;
  if (scale < 0x1p-126f) return {};
  return {scale, 1.0f / scale};
}

// A plain weight. weightAt() holds what packed ones need as well, for which there are no registers here.
__device__ inline float plainAt(const MatrixView& w, int64_t at) {
  if (w.storage == static_cast<int>(Storage::f32)) return w.f32[at];
  return w.storage == static_cast<int>(Storage::f16) ? halfToFloat(w.half[at]) : bf16ToFloat(w.half[at]);
}
// Weights [k, k + 4) of a row; k is a multiple of 4.
__device__ inline float4 fourOf(const MatrixView& w, int row, int k) {
  if (w.storage != static_cast<int>(Storage::packed)) {
    const int64_t at = static_cast<int64_t>(row) * w.cols + k;
    return make_float4(plainAt(w, at), plainAt(w, at + 1), plainAt(w, at + 2), plainAt(w, at + 3));
  }
  const int tile = row / 16, r = row % 16, chunk = k / 32;
  const ScaleMin s = scaleMinOf(w, tile, chunk, k % 32 / 16, r);
  const uint32_t four = codesOf(w.codes + (static_cast<int64_t>(tile) * w.chunks + chunk) * 16 * w.bits, w.bits, k % 32 / 4, r);
  const auto value = [&](uint32_t code) { return s.times(codeValue(w, code & 0xff, w.levels)); };
  return make_float4(value(four), value(four >> 8), value(four >> 16), value(four >> 24));
}
__device__ inline uint32_t fourCodes(const float4& x, float inverse) {
  return codeE4M3(x.x * inverse) | codeE4M3(x.y * inverse) << 8 | codeE4M3(x.z * inverse) << 16 | codeE4M3(x.w * inverse) << 24;
}

// A block takes 16 rows, a warp chunks of 32 of their columns, a lane half a row of a chunk; twice, because the scale has to be known first.
// Loops that are unrolled further, or less, spill where the divisions are called.
__global__ void __launch_bounds__(kEncodeWarps * 32) encodeTiles(const __grid_constant__ MatrixView w, int firstRow, Pointer<uint32_t> codes, Pointer<float> scales) {
  __shared__ SharedArray<float, kEncodeWarps * 16> largest;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, r = lane / 2;
  const int place = static_cast<int>(blockIdx.x) * 16 + r, row = firstRow + place;
  float most = 0;
  for (int chunk = warp; chunk < w.chunks; chunk += kEncodeWarps) {
    const int k = chunk * 32 + lane % 2 * 16;
    if (k >= w.cols) continue;
#pragma unroll 4
    for (int i = 0; i < 16; i += 4) {
      const float4 x = fourOf(w, row, k + i);
      most = fmaxf(fmaxf(most, fmaxf(fabsf(x.x), fabsf(x.y))), fmaxf(fabsf(x.z), fabsf(x.w)));
    }
  }
  most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
  if (lane % 2 == 0) largest[warp * 16 + r] = most;
  __syncthreads();
  for (int i = 0; i < kEncodeWarps; ++i) most = fmaxf(most, largest[i * 16 + r]);
  const RowScale scale = scaleOf(most);
  if (warp == 0 && lane % 2 == 0) scales[place] = scale.scale;
  for (int chunk = warp; chunk < w.chunks; chunk += kEncodeWarps) {
    const int k = chunk * 32 + lane % 2 * 16;
    if (k >= w.cols) continue;
#pragma unroll 4
    for (int i = 0; i < 16; i += 4) codes[(static_cast<int64_t>(place) * w.cols + k + i) / 4] = fourCodes(fourOf(w, row, k + i), scale.inverse);
  }
}

// A block to a token. What the source makes is made twice, out of a row that is in the first-level cache by then.
template <Source::Kind kind>
__global__ void __launch_bounds__(kRowThreads) encodeRows(const __grid_constant__ PrepareJob job, Pointer<uint32_t> codes, Pointer<float> scales) {
  __shared__ RowScratch scratch;
  __shared__ SharedArray<float, kRowWarps> largest;
  const int token = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int64_t row = token * job.stride;
  const RowNorm norm = normOf<kRowThreads>(job, kind, job.x + row, scratch.pointer());
  float most = 0;
  for (int k = thread; k < job.cols; k += kRowThreads) most = fmaxf(most, fabsf(madeValue(job, kind, norm, row, k)));
  const RowScale scale = scaleOf(blockMax<kRowWarps>(most, largest));
  if (thread == 0) scales[token] = scale.scale;
  for (int word = thread; word < job.cols / 4; word += kRowThreads) {
    uint32_t four = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) four |= codeE4M3(madeValue(job, kind, norm, row, 4 * word + i) * scale.inverse) << (8 * i);
    codes[static_cast<int64_t>(token) * (job.cols / 4) + word] = four;
  }
}

struct ScaleJob {
  Pointer<const float> sums, xScales, wScales, bias;
  Pointer<float> y;
  int64_t yStride = 0;
  int rows = 0;
  bool accumulate = false;
};
__global__ void scaleRows(const __grid_constant__ ScaleJob job) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), token = static_cast<int>(blockIdx.y);
  if (row >= job.rows) return;
  float v = job.sums[static_cast<int64_t>(token) * job.rows + row] * job.xScales[token] * job.wScales[row];
  if (job.bias) v += job.bias[row];
  const int64_t at = token * job.yStride + row;
  job.y[at] = job.accumulate ? job.y[at] + v : v;
}

}  // namespace winnow::cuda
