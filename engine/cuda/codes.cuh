// SPDX-License-Identifier: GPL-3.0-or-later
// From packed codes in shared memory to the fragments of the tensor core. The packing's order is kept: of a chunk of 32 values, lane
// (g, t) of a warp, g = lane / 4 and t = lane % 4, takes dwords t and t + 4 of rows g and g + 8, that is values 4t .. 4t + 3 and 16 + 4t ..
// 16 + 4t + 3: an A fragment as soon as the codes are floats (or bytes: int8 multiplies integers as they are). Codes less their offset are
// integers of at most 8 bits and a sign, which f16 and bf16 hold exactly, as they hold floats of 4 and 8 bits. The levels of NF4 are 24 bits:
// two f16 hold 22 of them, three bf16 all.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/ops.h"
#include "engine/cuda/ptx.cuh"

namespace winnow::cuda {

__host__ __device__ constexpr bool hasSteps(Coding coding) { return coding == Coding::super || coding == Coding::halves; }  // beside scales
__host__ __device__ constexpr bool hasMins(Coding coding) { return coding == Coding::super || coding == Coding::integers; }  // where the matrix has them
__host__ __device__ constexpr int codeParts(Coding coding) { return coding == Coding::halves ? 2 : 1; }  // of a chunk, with scales of their own

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

// Two f16 as they lie in a register.
__device__ inline __half2 asHalves(uint32_t two) {
  return __halves2half2(__ushort_as_half(static_cast<uint16_t>(two)), __ushort_as_half(static_cast<uint16_t>(two >> 16)));
}
__device__ inline uint32_t wordOf(__half2 two) {
  return static_cast<uint32_t>(__half_as_ushort(__low2half(two))) | static_cast<uint32_t>(__half_as_ushort(__high2half(two))) << 16;
}
__device__ inline void codesToHalves(uint32_t codes, __half2 minus, uint32_t& first, uint32_t& second) {
  // Four integers as two registers of two floats, less the offset, exact: the bytes 0x64, c are the f16 1024 + c.
  first = wordOf(__hsub2(asHalves(__byte_perm(codes, 0x64646464u, 0x4140)), minus));
  second = wordOf(__hsub2(asHalves(__byte_perm(codes, 0x64646464u, 0x4342)), minus));
}
__device__ inline void floatsToBf16(const float (&v)[4], uint32_t& first, uint32_t& second) {
  first = floatToBf16(v[0]) | static_cast<uint32_t>(floatToBf16(v[1])) << 16;
  second = floatToBf16(v[2]) | static_cast<uint32_t>(floatToBf16(v[3])) << 16;
}
__device__ inline void codesToBf16(uint32_t codes, float minus, uint32_t& first, uint32_t& second) {
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = __uint_as_float(0x4b000000u | (codes >> (8 * i) & 0xff)) - minus;  // 0x4b000000: 2^23
  floatsToBf16(v, first, second);
}

// The same for floats of 8 bits. As the upper bytes of f16, those of E5M2 are themselves and, a bit to the right, those of E4M3 2^8 times too
// small; codes of E2M1 are those of E5M2 that stand for 2^-14 of the value.
__device__ inline uint32_t spreadE2M1(uint32_t codes) { return (codes & 0x08080808u) << 4 | (codes & 0x07070707u) << 1; }
template <Coding coding>
__device__ inline void smallToHalves(uint32_t codes, uint32_t& first, uint32_t& second) {
  const auto pair = [](uint32_t two) {
    if constexpr (coding == Coding::e5m2) return two;
    if constexpr (coding == Coding::e4m3) two = (two & 0x80008000u) | (two >> 1 & 0x3f803f80u);
    const __half unit = __float2half_rn(coding == Coding::e4m3 ? 0x1p8f : 0x1p14f);
    return wordOf(__hmul2(asHalves(two), __halves2half2(unit, unit)));
  };
  if constexpr (coding == Coding::e2m1) codes = spreadE2M1(codes);
  first = pair(__byte_perm(codes, 0, 0x1404));
  second = pair(__byte_perm(codes, 0, 0x3424));
}
template <Coding coding>
__device__ inline void smallToBf16(uint32_t codes, uint32_t& first, uint32_t& second) {
  if constexpr (coding == Coding::e2m1) codes = spreadE2M1(codes);
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[i] = smallFloat<coding == Coding::e4m3 ? 4 : 5>(codes >> (8 * i) & 0xff);
    if constexpr (coding == Coding::e2m1) v[i] *= 0x1p14f;
  }
  floatsToBf16(v, first, second);
}

// Codes that the lanes of a warp look up: lane i holds level i % 16, as the mode multiplies it.
__host__ __device__ constexpr bool looksUp(ActivationMode mode, Coding coding) {
  return coding == Coding::nf4 || (coding == Coding::e2m1 && mode == ActivationMode::int8);
}
template <ActivationMode mode, Coding coding>
__device__ inline uint32_t levelOfLane(const MatrixView& w) {
  if constexpr (!looksUp(mode, coding)) return 0;
  const float v = w.levels[threadIdx.x % 16];
  if constexpr (mode == ActivationMode::int8) return static_cast<uint32_t>(static_cast<int>(rintf(v / w.levelUnit))) & 0xff;
  if constexpr (mode == ActivationMode::f32) return __float_as_uint(v);
  const uint16_t high = floatToHalf(v);
  return high | static_cast<uint32_t>(floatToHalf(v - halfToFloat(high))) << 16;
}
__device__ inline void lookUp(uint32_t codes, uint32_t level, uint32_t (&found)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) found[i] = __shfl_sync(kAllLanes, level, static_cast<int>(codes >> (8 * i)), 16);
}
// Four levels in pieces, the largest first.
__device__ inline void levelsToFloats(uint32_t codes, uint32_t level, uint32_t (&first)[2], uint32_t (&second)[2]) {
  uint32_t v[4];
  lookUp(codes, level, v);
#pragma unroll
  for (int piece = 0; piece < 2; ++piece) {
    first[piece] = __byte_perm(v[0], v[1], piece == 0 ? 0x5410 : 0x7632);
    second[piece] = __byte_perm(v[2], v[3], piece == 0 ? 0x5410 : 0x7632);
  }
}
__device__ inline void levelsToFloats(uint32_t codes, uint32_t level, uint32_t (&first)[3], uint32_t (&second)[3]) {
  uint32_t found[4];
  lookUp(codes, level, found);
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = __uint_as_float(found[i]);
#pragma unroll
  for (int piece = 0; piece < 3; ++piece) {
    floatsToBf16(v, first[piece], second[piece]);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] -= bf16ToFloat(floatToBf16(v[i]));  // exact
  }
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

// In how many floats of 16 bits a code is multiplied.
__host__ __device__ constexpr int codePieces(ActivationMode mode, Coding coding) { return coding != Coding::nf4 ? 1 : mode == ActivationMode::f32 ? 3 : 2; }
// A product of pieces i and j of f32 numbers counts: beyond is less than their last bit.
__host__ __device__ constexpr bool counts(int i, int j) { return i + j < 3; }

template <ActivationMode mode, Coding coding>
struct CodeFragments {  // of rows g and g + 8, for the two products of 16 that a chunk is
  uint32_t first[codePieces(mode, coding)][4], second[codePieces(mode, coding)][4];
};
template <ActivationMode mode, Coding coding, int pieces>
__device__ inline void toFloats(uint32_t codes, int offset, uint32_t level, uint32_t (&first)[pieces], uint32_t (&second)[pieces]) {
  if constexpr (coding == Coding::nf4) {
    levelsToFloats(codes, level, first, second);
  } else if constexpr (coding == Coding::e2m1 || coding == Coding::e4m3 || coding == Coding::e5m2) {
    if constexpr (mode == ActivationMode::f32)
      smallToBf16<coding>(codes, first[0], second[0]);
    else
      smallToHalves<coding>(codes, first[0], second[0]);
  } else if constexpr (mode == ActivationMode::f32) {
    codesToBf16(codes, 8388608.0f + static_cast<float>(offset), first[0], second[0]);
  } else {
    const __half minus = __float2half_rn(1024.0f + static_cast<float>(offset));
    codesToHalves(codes, __halves2half2(minus, minus), first[0], second[0]);
  }
}
// level: levelOfLane.
template <ActivationMode mode, Coding coding>
__device__ inline CodeFragments<mode, coding> floatsOf(const Codes& codes, int offset, uint32_t level) {
  constexpr int kPieces = codePieces(mode, coding);
  CodeFragments<mode, coding> f;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    uint32_t low[2][kPieces], high[2][kPieces];
    toFloats<mode, coding>(codes.low[r], offset, level, low[0], low[1]);
    toFloats<mode, coding>(codes.high[r], offset, level, high[0], high[1]);
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      f.first[p][r] = low[0][p], f.first[p][2 + r] = low[1][p];
      f.second[p][r] = high[0][p], f.second[p][2 + r] = high[1][p];
    }
  }
  return f;
}
// Codes that are no plain integers, as bytes with a sign: their products need no sums of x.
__host__ __device__ constexpr bool signedBytes(Coding coding) { return coding == Coding::halves || coding == Coding::nf4 || coding == Coding::e2m1; }
template <Coding coding>
__device__ inline uint32_t toBytes(uint32_t codes, int offset, uint32_t level) {
  if constexpr (coding == Coding::halves) return ((codes | 0x80808080u) - 0x01010101u * static_cast<uint32_t>(offset)) ^ 0x80808080u;  // no byte borrows
  uint32_t v[4];
  lookUp(codes, level, v);
  return v[0] | v[1] << 8 | v[2] << 16 | v[3] << 24;
}
struct CodeBytes {
  uint32_t a[4];
};
template <Coding coding>
__device__ inline CodeBytes bytesOf(const Codes& codes, int offset, uint32_t level) {
  CodeBytes bytes;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    bytes.a[r] = toBytes<coding>(codes.low[r], offset, level);
    bytes.a[2 + r] = toBytes<coding>(codes.high[r], offset, level);
  }
  return bytes;
}
// The sums of a chunk, or of each of its halves: += codes times the bytes of x.
template <Coding coding>
__device__ inline void sumSigned(int (&d)[codeParts(coding)][4], const CodeBytes& codes, const uint32_t (&x)[2]) {
  if constexpr (coding == Coding::halves) {
    const uint32_t first[4] = {codes.a[0], codes.a[1], 0, 0}, second[4] = {0, 0, codes.a[2], codes.a[3]};
    mmaSignedBytes(d[0], first, x);
    mmaSignedBytes(d[1], second, x);
  } else {
    mmaSignedBytes(d[0], codes.a, x);
  }
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
// The scale or minimum of a row: f16, and with super-blocks an 8-bit multiple of it, exact in f32; or a power of two.
template <Coding coding>
__device__ inline float scaleOfRow(Pointer<uint32_t> halves, Pointer<uint32_t> steps, int row) {
  if constexpr (coding == Coding::e2m1) return powerOfTwo(halves[row / 4] >> (8 * (row % 4)) & 0xff);
  const float scale = halfOfRow(halves, row);
  if constexpr (coding == Coding::halves) return scale * (byteOfRow(steps, row) - 128.0f);
  return coding == Coding::super ? scale * byteOfRow(steps, row) : scale;
}

}  // namespace winnow::cuda
