// SPDX-License-Identifier: GPL-3.0-or-later
// Makes the forms of x that pieces.cuh describes, out of rows as they lie, their norm, or an activation of them.
#pragma once
#include "engine/cuda/pieces.cuh"
#include "engine/cuda/row_values.cuh"

namespace winnow::cuda {

__device__ inline float roundedAs(ActivationMode mode, float x) {
  if (mode == ActivationMode::f16) return halfToFloat(floatToHalf(x));
  if (mode == ActivationMode::bf16) return bf16ToFloat(floatToBf16(x));
  return x;
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

struct PrepareJob {
  Pointer<const float> x, weight, bias, up;
  int64_t stride = 0;  // of x and up
  float eps = 0;
  Activation activation{};
  ActivationMode mode{};
  int tokens = 0, cols = 0, chunks = 0;
  Pointer<float> rounded;         // [tokens, cols]; this and the others null where they are not wanted
  Pointer<uint16_t> halves;       // [tokens, cols]
  Pointer<uint32_t> pieces;
  Pointer<float> scales, totals;  // beside the pieces
  Pointer<int32_t> sums;
};

// A chunk of a row, one value to a lane.
__device__ inline void writeFragments(const PrepareJob& job, int chunk, int token, int lane, float v) {
  const int64_t at = static_cast<int64_t>(chunk) * job.tokens + token;
  Pointer<uint32_t> words = job.pieces + at * pieceWords(job.mode);
  if (job.mode == ActivationMode::int8) return quantizeChunk(v, lane, at, words, job.scales, job.sums, job.totals);
  const float total = warpSum(roundedAs(job.mode, v));
  if (lane == 0) job.totals[at] = total;
  if (job.mode != ActivationMode::f32) return writePair(words, lane, job.mode == ActivationMode::bf16 ? floatToBf16(v) : floatToHalf(v));
  for (int piece = 0; piece < 3; ++piece) {
    const uint16_t part = floatToBf16(v);
    writePair(words + piece * 16, lane, part);
    v -= bf16ToFloat(part);  // exact: the difference has fewer bits than v
  }
}

// blockIdx.x: part of a row; blockIdx.y: token. Every block of a row makes its norm anew, which is one read from the second-level cache.
template <Source::Kind kind>
__global__ void __launch_bounds__(kRowThreads) prepareRows(const __grid_constant__ PrepareJob job) {
  __shared__ RowScratch sums, squares;
  const int token = static_cast<int>(blockIdx.y), warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  Pointer<const float> x = job.x + token * job.stride;
  [[maybe_unused]] RowNorm norm;
  if constexpr (kind == Source::Kind::rms) norm = rmsOf(x, job.eps, job.cols, sums);
  if constexpr (kind == Source::Kind::layer) norm = layerOf(x, job.eps, job.cols, sums, squares);
  for (int chunk = static_cast<int>(blockIdx.x) * kRowWarps + warp; chunk < job.chunks; chunk += static_cast<int>(gridDim.x) * kRowWarps) {
    const int k = chunk * 32 + lane;
    float v = 0;
    if (k < job.cols) {
      v = x[k];
      if constexpr (kind == Source::Kind::rms) v = rmsValue(v, norm, job.weight[k]);
      if constexpr (kind == Source::Kind::layer) v = layerValue(v, norm, job.weight[k], job.bias ? static_cast<float>(job.bias[k]) : 0.0f);
      if constexpr (kind == Source::Kind::activated)
        v = job.up ? activated(job.activation, v, job.up[token * job.stride + k]) : squashed(job.activation, v);
      const int64_t at = static_cast<int64_t>(token) * job.cols + k;
      if (job.rounded) job.rounded[at] = roundedAs(job.mode, v);
      if (job.halves) job.halves[at] = job.mode == ActivationMode::bf16 ? floatToBf16(v) : floatToHalf(v);
    }
    if (job.pieces) writeFragments(job, chunk, token, lane, v);
  }
}

}  // namespace winnow::cuda
