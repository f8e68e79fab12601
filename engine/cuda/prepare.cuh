// SPDX-License-Identifier: GPL-3.0-or-later
// Makes the forms of x that pieces.cuh describes.
#pragma once
#include "engine/cuda/pieces.cuh"

namespace winnow::cuda {

constexpr int kPrepareWarps = 4;

__device__ inline float roundedAs(ActivationMode mode, float x) {
  if (mode == ActivationMode::f16) return halfToFloat(floatToHalf(x));
  if (mode == ActivationMode::bf16) return bf16ToFloat(floatToBf16(x));
  return x;
}

__global__ void roundRows(Pointer<const float> x, int64_t stride, int cols, ActivationMode mode, Pointer<float> out) {
  const int t = static_cast<int>(blockIdx.y), k = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (k < cols) out[static_cast<int64_t>(t) * cols + k] = roundedAs(mode, x[t * stride + k]);
}

// Each lane of a warp holds one value of the chunk; the even lane of a pair writes the word of both.
__device__ inline void writePair(Pointer<uint32_t> words, int lane, uint16_t mine) {
  const uint32_t other = __shfl_down_sync(kAllLanes, static_cast<uint32_t>(mine), 1);
  if (lane % 2 == 0) words[lane % 16 / 4 * 4 + lane / 16 * 2 + lane % 4 / 2] = mine | other << 16;
}

__device__ inline void quantizeChunk(float x, int lane, int64_t at, Pointer<uint32_t> words, Pointer<float> scales, Pointer<int32_t> sums,
                                     Pointer<float> totals) {
  const float scale = warpMax(fabsf(x)) / 127.0f;
  const bool usable = scale > 0 && scale < 3.0e38f;
  // A subnormal scale is coarse: the quotient can pass 127.
  const int q = usable ? static_cast<int>(fmaxf(fminf(rintf(x / scale), 127.0f), -127.0f)) : 0;
  const int sum = warpSum(q);
  const uint32_t byte = static_cast<uint32_t>(q) & 0xff;
  uint32_t word = byte;
#pragma unroll
  for (unsigned i = 1; i < 4; ++i) word |= __shfl_down_sync(kAllLanes, byte, i) << (8 * i);
  if (lane % 4 == 0) words[lane % 16 / 4 * 2 + lane / 16] = word;
  if (lane != 0) return;
  scales[at] = usable ? scale : 0.0f;
  sums[at] = sum;
  totals[at] = usable ? scale * static_cast<float>(sum) : 0.0f;
}

__global__ void prepareFragments(Pointer<const float> x, int64_t stride, int tokens, int cols, int chunks, ActivationMode mode,
                                 Pointer<uint32_t> pieces, Pointer<float> scales, Pointer<int32_t> sums, Pointer<float> totals) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kPrepareWarps + threadIdx.x / 32;  // chunk, token
  if (at >= static_cast<int64_t>(chunks) * tokens) return;
  const int lane = static_cast<int>(threadIdx.x % 32), token = static_cast<int>(at % tokens), k = static_cast<int>(at / tokens) * 32 + lane;
  float v = k < cols ? x[token * stride + k] : 0.0f;
  Pointer<uint32_t> words = pieces + at * pieceWords(mode);
  if (mode == ActivationMode::int8) return quantizeChunk(v, lane, at, words, scales, sums, totals);
  const float total = warpSum(roundedAs(mode, v));
  if (lane == 0) totals[at] = total;
  if (mode != ActivationMode::f32) return writePair(words, lane, mode == ActivationMode::bf16 ? floatToBf16(v) : floatToHalf(v));
  for (int piece = 0; piece < 3; ++piece) {
    const uint16_t part = floatToBf16(v);
    writePair(words + piece * 16, lane, part);
    v -= bf16ToFloat(part);  // exact: the difference has fewer bits than v
  }
}

}  // namespace winnow::cuda
