// SPDX-License-Identifier: GPL-3.0-or-later
// From packed codes in shared memory to the fragments of the tensor core. The packing's order is kept: of a chunk of 32 values, lane
// (g, t) of a warp, g = lane / 4 and t = lane % 4, takes dwords t and t + 4 of rows g and g + 8, that is values 4t .. 4t + 3 and 16 + 4t ..
// 16 + 4t + 3: an A fragment as soon as the codes are floats (or bytes: int8 multiplies them as they are). Codes less their offset are
// integers of at most 8 bits and a sign, which f16 and bf16 hold exactly.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"
#include "engine/cuda/ptx.cuh"

namespace winnow::cuda {

// Dword d of rows g and g + 8 for all planes; both dwords t and t + 4 of the chunk for one look at the ring where planes are narrow.
template <int width>
__device__ inline void planeWords(Pointer<uint32_t> base, int t, int row, uint32_t& low, uint32_t& high) {
  if constexpr (width == 8) {
    low = base[t * 16 + row];
    high = base[(t + 4) * 16 + row];
  } else {
    constexpr uint32_t kMask = 0x01010101u * ((1u << width) - 1);
    const uint32_t word = base[t % width * 16 + row];
    low = word >> (t - t % width) & kMask;
    high = word >> (t - t % width + 4) & kMask;
  }
}
template <int bits>
__device__ inline void rowCodes(Pointer<uint32_t> chunk, int t, int row, uint32_t& low, uint32_t& high) {
  constexpr int kBase = bits == 8 ? 8 : bits >= 4 ? 4 : 2;
  planeWords<kBase>(chunk, t, row, low, high);
  if constexpr (bits != kBase) {
    uint32_t l, h;
    planeWords<bits - kBase>(chunk + 16 * kBase, t, row, l, h);
    low |= l << kBase;
    high |= h << kBase;
  }
}

// Four codes as two registers of two floats, less the offset; exact.
__device__ inline void codesToHalves(uint32_t codes, __half2 minus, uint32_t& first, uint32_t& second) {
  // The bytes 0x64, c are the f16 1024 + c.
  const uint32_t a = __byte_perm(codes, 0x64646464u, 0x4140), b = __byte_perm(codes, 0x64646464u, 0x4342);
  const auto less = [minus](uint32_t two) {
    const __half2 value = __halves2half2(__ushort_as_half(static_cast<uint16_t>(two)), __ushort_as_half(static_cast<uint16_t>(two >> 16)));
    const __half2 r = __hsub2(value, minus);
    return static_cast<uint32_t>(__half_as_ushort(__low2half(r))) | static_cast<uint32_t>(__half_as_ushort(__high2half(r))) << 16;
  };
  first = less(a);
  second = less(b);
}
__device__ inline void codesToBf16(uint32_t codes, float minus, uint32_t& first, uint32_t& second) {
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = __uint_as_float(0x4b000000u | (codes >> (8 * i) & 0xff)) - minus;  // 0x4b000000: 2^23
  first = floatToBf16(v[0]) | static_cast<uint32_t>(floatToBf16(v[1])) << 16;
  second = floatToBf16(v[2]) | static_cast<uint32_t>(floatToBf16(v[3])) << 16;
}

struct Codes {  // of rows g and g + 8
  uint32_t low[2], high[2];
};
template <int bits>
__device__ inline Codes loadCodes(Pointer<uint32_t> chunk, int g, int t) {
  // Lanes t = 2, 3 begin with the other row: 16 words apart is half the banks.
  const int first = g + (t & 2) * 4;
  uint32_t low[2], high[2];
  rowCodes<bits>(chunk, t, first, low[0], high[0]);
  rowCodes<bits>(chunk, t, first ^ 8, low[1], high[1]);
  const bool swap = (t & 2) != 0;
  return {{swap ? low[1] : low[0], swap ? low[0] : low[1]}, {swap ? high[1] : high[0], swap ? high[0] : high[1]}};
}

struct CodeFragments {  // of rows g and g + 8, for the two products of 16 that a chunk is
  uint32_t first[4], second[4];
};
template <ActivationMode mode>
__device__ inline CodeFragments floatsOf(const Codes& codes, int offset) {
  CodeFragments f;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if constexpr (mode == ActivationMode::f32) {
      const float minus = 8388608.0f + static_cast<float>(offset);
      codesToBf16(codes.low[r], minus, f.first[r], f.first[2 + r]);
      codesToBf16(codes.high[r], minus, f.second[r], f.second[2 + r]);
    } else {
      const __half minus = __float2half_rn(1024.0f + static_cast<float>(offset));
      codesToHalves(codes.low[r], __halves2half2(minus, minus), f.first[r], f.first[2 + r]);
      codesToHalves(codes.high[r], __halves2half2(minus, minus), f.second[r], f.second[2 + r]);
    }
  }
  return f;
}
// f32 inputs are made of bf16 pieces, the others of f16.
template <ActivationMode mode>
__device__ inline void mmaFloats(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (mode == ActivationMode::f32 || mode == ActivationMode::bf16)
    mmaBf16(d, a, b);
  else
    mmaHalf(d, a, b);
}

// The packed 16 bits of row `row` out of eight words.
__device__ inline float halfOfRow(Pointer<uint32_t> words, int row) {
  const uint32_t two = words[row / 2];
  return row % 2 ? highHalf(two) : lowHalf(two);
}
__device__ inline float byteOfRow(Pointer<uint32_t> words, int row) {
  return static_cast<float>(words[row / 4] >> (8 * (row % 4)) & 0xff);
}
// The scale or minimum of a row: f16, and with super-blocks an 8-bit multiple of it, exact in f32.
template <bool super>
__device__ inline float scaleOfRow(Pointer<uint32_t> halves, Pointer<uint32_t> steps, int row) {
  const float scale = halfOfRow(halves, row);
  return super ? scale * byteOfRow(steps, row) : scale;
}

}  // namespace winnow::cuda
