// SPDX-License-Identifier: GPL-3.0-or-later
// Vectors for the kernel files, which are compiled once per instruction set. Everything is inside an anonymous namespace: no
// symbol built with AVX flags may be merged with one that generic code calls. For the same reason nothing of std:: is used here.
//   Vf   kLanes floats of the natural width (4, 8, 16)
//   V16  16 floats, I16 16 dwords: one lane per row of a packed tile
// fma(a, b, c) = a * b + c, rounded once where the instruction exists and twice in the scalar build.
#pragma once
#include <stdint.h>
#include <string.h>

#include "engine/cache/codes.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

#if defined(__AVX512F__)
#include "engine/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "engine/cpu/simd_avx2.h"
#else
#include "engine/cpu/simd_generic.h"
#endif

namespace winnow::cpu {
namespace {

constexpr int kParts = 16 / kLanes;  // Vf per V16

struct V16 {
  Vf v[kParts];
};
struct I16 {
  Vi v[kParts];
};

#define WINNOW_EACH_PART for (int i_ = 0; i_ < kParts; ++i_)

INLINE V16 set16(float x) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = set1(x);
  return r;
}
INLINE V16 load16(const float* p) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = load(p + i_ * kLanes);
  return r;
}
INLINE void store16(float* p, V16 a) { UNROLL WINNOW_EACH_PART store(p + i_ * kLanes, a.v[i_]); }
INLINE V16 loadHalf16(const uint16_t* p) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = loadHalf(p + i_ * kLanes);
  return r;
}
INLINE V16 loadByteFloats16(const uint8_t* p) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = loadByteFloats(p + i_ * kLanes);
  return r;
}
INLINE V16 loadPowers16(const uint8_t* p) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = loadPowers(p + i_ * kLanes);
  return r;
}
INLINE V16 fma(V16 a, V16 b, V16 c) {
  UNROLL WINNOW_EACH_PART c.v[i_] = fma(a.v[i_], b.v[i_], c.v[i_]);
  return c;
}
INLINE V16 fma(V16 a, Vf b, V16 c) {  // b the same in all lanes
  UNROLL WINNOW_EACH_PART c.v[i_] = fma(a.v[i_], b, c.v[i_]);
  return c;
}
INLINE V16 add(V16 a, V16 b) {
  UNROLL WINNOW_EACH_PART a.v[i_] = add(a.v[i_], b.v[i_]);
  return a;
}
INLINE V16 mul(V16 a, V16 b) {
  UNROLL WINNOW_EACH_PART a.v[i_] = mul(a.v[i_], b.v[i_]);
  return a;
}
INLINE V16 mul(V16 a, Vf b) {
  UNROLL WINNOW_EACH_PART a.v[i_] = mul(a.v[i_], b);
  return a;
}
INLINE I16 loadBytes(const uint8_t* p) {  // 64 bytes
  I16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = loadInt(p + i_ * kLanes * 4);
  return r;
}
INLINE I16 setInt16(int32_t x) {
  I16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = setInt(x);
  return r;
}
template <int n>
INLINE I16 shr(I16 a) {
  UNROLL WINNOW_EACH_PART a.v[i_] = shr<n>(a.v[i_]);
  return a;
}
template <int n>
INLINE I16 shift(I16 a) {  // to the left, or -n to the right
  UNROLL WINNOW_EACH_PART {
    if constexpr (n > 0) a.v[i_] = shl<n>(a.v[i_]);
    if constexpr (n < 0) a.v[i_] = shr<-n>(a.v[i_]);
  }
  return a;
}
INLINE I16 band(I16 a, uint32_t mask) {
  UNROLL WINNOW_EACH_PART a.v[i_] = band(a.v[i_], setInt(static_cast<int32_t>(mask)));
  return a;
}
INLINE I16 bor(I16 a, I16 b) {
  UNROLL WINNOW_EACH_PART a.v[i_] = bor(a.v[i_], b.v[i_]);
  return a;
}
INLINE I16 orBits(I16 a, I16 b, uint32_t mask) {  // a | (b & mask)
  UNROLL WINNOW_EACH_PART a.v[i_] = orBits(a.v[i_], b.v[i_], setInt(static_cast<int32_t>(mask)));
  return a;
}
INLINE V16 toFloat(I16 a) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = toFloat(a.v[i_]);
  return r;
}
// (byte `b` of each dword) - offset, exact; `minus` = 2^23 + offset in all lanes.
template <int b>
INLINE V16 byteToFloat(I16 a, Vf minus) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = byteToFloat<b>(a.v[i_], minus);
  return r;
}
INLINE V16 pick(const ValueTable& table, I16 i) {
  V16 r;
  UNROLL WINNOW_EACH_PART r.v[i_] = pick(table, i.v[i_]);
  return r;
}
INLINE I16 pickBytes(Vi table, I16 i) {
  UNROLL WINNOW_EACH_PART i.v[i_] = pickBytes(table, i.v[i_]);
  return i;
}
// Byte `b` of each dword as an 8-bit float with `exponent` bits of exponent; `unit` = 2^(127 - its bias) in all lanes. Codes of infinity and
// no number are not expected. Its subnormals are f32's before the product.
template <int exponent, int b>
INLINE V16 smallFloat(I16 a, Vf unit) {
  constexpr int down = 8 - exponent;                                         // from the upper end of the dword
  constexpr uint32_t kept = 0x80000000u | 0x7fu << (24 - down);              // the sign filled what it left
  V16 r;
  UNROLL WINNOW_EACH_PART {
    Vi v = a.v[i_];
    if constexpr (b < 3) v = shl<24 - 8 * b>(v);
    r.v[i_] = mul(asFloat(band(sra<down>(v), setInt(static_cast<int32_t>(kept)))), unit);
  }
  return r;
}
// acc + sum of the products of 4 unsigned bytes of `codes` and the 4 signed bytes of x, per lane.
INLINE I16 dot4(I16 acc, I16 codes, int32_t x) {
  UNROLL WINNOW_EACH_PART acc.v[i_] = dot4(acc.v[i_], codes.v[i_], x);
  return acc;
}
INLINE void storePart16(float* p, V16 a, int n) {
  if (n == 16) return store16(p, a);
  float t[16];
  store16(t, a);
  for (int i = 0; i < n; ++i) p[i] = t[i];
}
INLINE V16 loadPart16(const float* p, int n) {
  if (n == 16) return load16(p);
  float t[16] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return load16(t);
}

// e^x: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 in r. Relative error <= 2^-22 on [-87.33, 88.72] (tests/engine/ops);
// 0 below, saturated above. exp(0) is exactly 1.
INLINE Vf exponential(Vf x) {
  const Vf low = set1(-87.33654f);
  const Vf bounded = vmin(vmax(x, low), set1(88.72283f));
  const Vf n = roundEven(mul(bounded, set1(1.44269504f)));
  Vf r = fma(n, set1(-0.693145752f), bounded);  // ln 2 in two parts, the first of 16 bits: n times it is exact
  r = fma(n, set1(-1.42860677e-6f), r);
  Vf p = set1(1.0f / 720);
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(mul(r, r), p, r);
  return zeroWhereLess(x, low, scaleByPowerOf2(add(p, set1(1.0f)), n));
}

// ln x of normal x > 0: x = 2^e (1 + f), 1 + f in [sqrt 1/2, sqrt 2), and ln(1 + f) = f P(f), P interpolating at Chebyshev nodes with P(0) = 1.
// Error <= 2^-21 of the result (tests/engine/ops); ln 1 is exactly 0.
INLINE Vf logarithm(Vf x) {
  const Vi root = setInt(0x3f3504f3);  // sqrt 1/2
  const Vi e = sra<23>(sub(asInt(x), root));
  const Vf f = sub(asFloat(sub(asInt(x), shl<23>(e))), set1(1));
  Vf p = set1(0.0878726542f);
  p = fma(p, f, set1(-0.141596466f));
  p = fma(p, f, set1(0.14834787f));
  p = fma(p, f, set1(-0.165884882f));
  p = fma(p, f, set1(0.199720502f));
  p = fma(p, f, set1(-0.250011474f));
  p = fma(p, f, set1(0.333336711f));
  p = fma(p, f, set1(-0.49999997f));
  p = fma(p, f, set1(1.0f));
  return fma(toFloat(e), set1(0.693147181f), mul(f, p));
}

}  // namespace
}  // namespace winnow::cpu
