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
  if (totals) totals[at] = usable ? scale * static_cast<float>(sum) : 0.0f;
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

// Without what is to be written.
inline PrepareJob jobOf(const Source& source, int tokens, int cols) {
  PrepareJob job;
  job.x = source.x;
  job.weight = source.weight;
  job.bias = source.bias;
  job.up = source.up;
  job.stride = source.stride;
  job.eps = source.eps;
  job.activation = source.activation;
  job.tokens = tokens;
  job.cols = cols;
  return job;
}

struct Fragments {  // pieces.cuh, to be written
  Pointer<uint32_t> words;
  Pointer<float> scales, totals;  // totals may be null
  Pointer<int32_t> sums;
  int tokens = 0;
};

// A chunk of a row, one value to a lane.
__device__ inline void writeFragments(const Fragments& to, ActivationMode mode, int chunk, int token, int lane, float v) {
  const int64_t at = static_cast<int64_t>(chunk) * to.tokens + token;
  Pointer<uint32_t> words = to.words + at * pieceWords(mode);
  if (mode == ActivationMode::int8) return quantizeChunk(v, lane, at, words, to.scales, to.sums, to.totals);
  if (to.totals) {
    const float total = warpSum(roundedAs(mode, v));
    if (lane == 0) to.totals[at] = total;
  }
  if (mode != ActivationMode::f32) return writePair(words, lane, mode == ActivationMode::bf16 ? floatToBf16(v) : floatToHalf(v));
  for (int piece = 0; piece < 3; ++piece) {
    const uint16_t part = floatToBf16(v);
    writePair(words + piece * 16, lane, part);
    v -= bf16ToFloat(part);  // exact: the difference has fewer bits than v
  }
}

// What a norm needs to know of a row; by a block of `threads`.
template <int threads>
__device__ inline RowNorm normOf(const PrepareJob& job, Source::Kind kind, Pointer<const float> x, Pointer<float> scratch) {
  if (kind == Source::Kind::rms) return rmsOf<threads>(x, job.eps, job.cols, scratch);
  if (kind == Source::Kind::layer) return layerOf<threads>(x, job.eps, job.cols, scratch);
  return {};
}
__device__ inline float madeValue(const PrepareJob& job, Source::Kind kind, const RowNorm& norm, int64_t row, int k) {
  const float v = job.x[row + k];
  if (kind == Source::Kind::rms) return rmsValue(v, norm, job.weight[k]);
  if (kind == Source::Kind::layer) return layerValue(v, norm, job.weight[k], job.bias ? static_cast<float>(job.bias[k]) : 0.0f);
  if (kind == Source::Kind::activated) return job.up ? activated(job.activation, v, job.up[row + k]) : squashed(job.activation, v);
  return v;
}

// blockIdx.x: part of a row; blockIdx.y: token. Every block of a row makes its norm anew, which is one read from the second-level cache.
template <Source::Kind kind>
__global__ void __launch_bounds__(kRowThreads) prepareRows(const __grid_constant__ PrepareJob job) {
  __shared__ RowScratch scratch;
  const int token = static_cast<int>(blockIdx.y), warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = token * job.stride;
  const RowNorm norm = normOf<kRowThreads>(job, kind, job.x + row, scratch.pointer());
  for (int chunk = static_cast<int>(blockIdx.x) * kRowWarps + warp; chunk < job.chunks; chunk += static_cast<int>(gridDim.x) * kRowWarps) {
    const int k = chunk * 32 + lane;
    float v = 0;
    if (k < job.cols) {
      v = madeValue(job, kind, norm, row, k);
      const int64_t at = static_cast<int64_t>(token) * job.cols + k;
      if (job.rounded) job.rounded[at] = roundedAs(job.mode, v);
      if (job.halves) job.halves[at] = job.mode == ActivationMode::bf16 ? floatToBf16(v) : floatToHalf(v);
    }
    if (job.pieces) writeFragments({job.pieces, job.scales, job.totals, job.sums, job.tokens}, job.mode, chunk, token, lane, v);
  }
}

}  // namespace winnow::cuda
