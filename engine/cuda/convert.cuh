// SPDX-License-Identifier: GPL-3.0-or-later
// Weights from the master: round to nearest into the packing, the very bytes of engine/cpu/rounding.h.
// A block takes one group of columns of one tile. Eight neighbouring lanes hold a row; of each chunk, lane j holds values 4j .. 4j + 3,
// which are dword j of the packing before its bits are spread over the planes.
#pragma once
#include "engine/cuda/matrix.cuh"

namespace winnow::cuda {

constexpr float kHalfMax = 65504.0f, kHalfTiny = 0x1p-24f;  // largest and smallest positive f16

__device__ inline uint16_t halfBits(float x) { return floatToHalf(fminf(fmaxf(x, -kHalfMax), kHalfMax)); }
__device__ inline float asHalf(float x) { return halfToFloat(halfBits(x)); }
__device__ inline float halfDown(float x) {  // largest f16 <= x, for |x| <= kHalfMax
  const uint16_t bits = halfBits(x);
  const float h = halfToFloat(bits);
  if (h <= x) return h;
  if (h == 0) return -kHalfTiny;
  return halfToFloat(static_cast<uint16_t>(h > 0 ? bits - 1 : bits + 1));
}
__device__ inline float halfUp(float x) { return -halfDown(-x); }

struct RoundGrid {
  float scale, min;
};
__device__ inline RoundGrid symmetricGrid(float largest, int levels) {
  const float q = static_cast<float>(levels);
  float scale = asHalf(largest / q);
  // Only among f16 subnormals can rounding move the scale so far that the largest weight falls off the grid.
  if (largest > (q + 0.5f) * scale) scale = fminf(halfUp(fminf(largest / q, kHalfMax)), kHalfMax);
  return {scale, 0};
}
__device__ inline RoundGrid asymmetricGrid(float low, float high, int levels) {
  const float range = high - low, q = static_cast<float>(levels);
  low = fminf(fmaxf(low, -kHalfMax), kHalfMax);
  if (range == 0) {  // exact when the value is an f16; else one step on top of the minimum makes up the difference
    const float min = halfDown(low);
    return min == low ? RoundGrid{1, min} : RoundGrid{fmaxf(asHalf(low - min), kHalfTiny), min};
  }
  if (fabsf(low) > 32 * range) {
    const float min = halfDown(low);
    return {fmaxf(fminf(halfUp(fminf((high - min) / q, kHalfMax)), kHalfMax), kHalfTiny), min};
  }
  float scale = asHalf(range / q);
  if (range > (q + 0.5f) * scale) scale = fminf(halfUp(fminf(range / q, kHalfMax)), kHalfMax);
  return {scale, asHalf(low)};
}

struct QuantizeJob {
  Pointer<const float> f32;
  Pointer<const uint16_t> half;
  Pointer<uint32_t> codes;
  Pointer<uint16_t> scales, mins;
  Pointer<uint16_t> steps;  // exponents, two to a word
  int firstTile = 0, count = 0, cols = 0, chunks = 0, groups = 0, groupChunks = 0;
};

// Four values of a row from column k; beyond the row: `fill`.
template <Storage storage>
__device__ inline void loadFour(const QuantizeJob& job, int row, int k, float fill, float (&v)[4]) {
  const int64_t at = static_cast<int64_t>(row) * job.cols + k;
  if (job.cols % 4 == 0 && k < job.cols) {
    if constexpr (storage == Storage::f32) {
      const float4 four = load<float4>(job.f32 + at);
      v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    } else {
      const uint2 two = load<uint2>(job.half + at);
      const uint32_t words[2] = {two.x, two.y};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto bits = static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2)));
        v[i] = storage == Storage::f16 ? halfToFloat(bits) : bf16ToFloat(bits);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[i] = fill;
    if (k + i >= job.cols) continue;
    if constexpr (storage == Storage::f32)
      v[i] = job.f32[at + i];
    else
      v[i] = storage == Storage::f16 ? halfToFloat(job.half[at + i]) : bf16ToFloat(job.half[at + i]);
  }
}

// Words of a plane of `width` bits at bit `low`: word p gathers dwords p, width + p, ... of the row's eight lanes.
template <int width, int low>
__device__ inline void writePlane(uint32_t dword, int lane8, int r, Pointer<uint32_t> out) {
  constexpr uint32_t kMask = 0x01010101u * ((1u << width) - 1);
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 8 / width; ++i) word |= (__shfl_sync(kAllLanes, dword, i * width + lane8 % width, 8) >> low & kMask) << (i * width);
  if (lane8 < width) out[lane8 * 16 + r] = word;
}
template <int bits>
__device__ inline void writeChunk(uint32_t dword, int lane8, int r, Pointer<uint32_t> out) {
  constexpr int kBase = bits == 8 ? 8 : bits >= 4 ? 4 : 2;
  writePlane<kBase, 0>(dword, lane8, r, out);
  if constexpr (bits != kBase) writePlane<bits - kBase, kBase>(dword, lane8, r, out + 16 * kBase);
}

template <Storage storage, int bits, bool symmetric>
__global__ void __launch_bounds__(128) quantizeGroups(const __grid_constant__ QuantizeJob job) {
  constexpr int kLevels = symmetric ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
  const int lane8 = static_cast<int>(threadIdx.x) % 8, r = static_cast<int>(threadIdx.x) / 8, tile = static_cast<int>(blockIdx.y),
            group = static_cast<int>(blockIdx.x), row = tile * 16 + r;
  const bool real = row < job.count;  // rows past the end are zeros
  const int begin = group * job.groupChunks, end = min(begin + job.groupChunks, job.chunks);
  float least = INFINITY, most = -INFINITY, largest = 0;
  for (int chunk = begin; chunk < end && real; ++chunk) {
    float v[4];
    loadFour<storage>(job, row, chunk * 32 + lane8 * 4, NAN, v);  // fminf and fmaxf pass NaN over
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      least = fminf(least, v[i]);
      most = fmaxf(most, v[i]);
      largest = fmaxf(largest, fabsf(v[i]));
    }
  }
  largest = warpMax<8>(largest);
  least = warpMin<8>(least);
  most = warpMax<8>(most);
  if (least == 0) least = -0.0f;  // as the CPU negates a maximum
  const RoundGrid grid = symmetric ? symmetricGrid(largest, kLevels) : asymmetricGrid(least, most, kLevels);
  const int64_t at = (static_cast<int64_t>(job.firstTile + tile) * job.groups + group) * 16 + r;
  if (lane8 == 0) {
    job.scales[at] = real ? halfBits(grid.scale) : uint16_t{0};
    if (!symmetric) job.mins[at] = real ? halfBits(grid.min) : uint16_t{0};
  }
  const float scale = grid.scale > 0 ? grid.scale : 1.0f, bottom = symmetric ? -static_cast<float>(kLevels) : 0.0f;
  for (int chunk = begin; chunk < end; ++chunk) {
    const int k = chunk * 32 + lane8 * 4;
    uint32_t dword = 0;
    if (real) {
      float v[4];
      loadFour<storage>(job, row, k, 0, v);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float q = rintf(fminf(fmaxf((v[i] - grid.min) / scale, bottom), static_cast<float>(kLevels)));
        const uint32_t code = static_cast<uint32_t>(static_cast<int>(q) + (symmetric ? 1 << (bits - 1) : 0));
        if (k + i < job.cols) dword |= code << (8 * i);
      }
    }
    writeChunk<bits>(dword, lane8, r, job.codes + (static_cast<int64_t>(job.firstTile + tile) * job.chunks + chunk) * 16 * bits);
  }
}

constexpr int kValuesPerThread = 8, kValueThreads = 256;

// Exponents of all ones: 8 of them above 23 bits, 5 above 10, 8 above 7.
template <Storage storage>
__global__ void __launch_bounds__(kValueThreads) notFinite(Pointer<const float> f32, Pointer<const uint16_t> half, int64_t count, Pointer<int> flag) {
  bool found = false;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kValueThreads * kValuesPerThread + threadIdx.x;
  for (int turn = 0; turn < kValuesPerThread && i < count; ++turn, i += kValueThreads) {
    if constexpr (storage == Storage::f32)
      found = found || (__float_as_uint(f32[i]) & 0x7f800000u) == 0x7f800000u;
    else
      found = found || (half[i] & (storage == Storage::f16 ? 0x7c00 : 0x7f80)) == (storage == Storage::f16 ? 0x7c00 : 0x7f80);
  }
  if (found) atomicMax(flag, 1);
}

template <Storage storage>
__global__ void __launch_bounds__(kValueThreads) narrowValues(Pointer<const float> values, int64_t count, Pointer<float> f32, Pointer<uint16_t> half) {
  int64_t i = static_cast<int64_t>(blockIdx.x) * kValueThreads * kValuesPerThread + threadIdx.x;
  for (int turn = 0; turn < kValuesPerThread && i < count; ++turn, i += kValueThreads) {
    if constexpr (storage == Storage::f32)
      f32[i] = values[i];
    else
      half[i] = storage == Storage::f16 ? floatToHalf(values[i]) : floatToBf16(values[i]);
  }
}

}  // namespace winnow::cuda
