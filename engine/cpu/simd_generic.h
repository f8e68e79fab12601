// SPDX-License-Identifier: GPL-3.0-or-later
// Part of simd.h: 4 lanes in the compiler's own vectors, for any processor.
#pragma once

namespace winnow::cpu {
namespace {

constexpr int kLanes = 4;
typedef float Float4 __attribute__((vector_size(16)));
typedef uint32_t Word4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
struct Vf {
  Float4 v;
};
struct Vi {
  Word4 v;
};

template <class To, class From>
INLINE To bits(From x) {
  To r;
  static_assert(sizeof(To) == sizeof(From));
  memcpy(&r, &x, sizeof r);
  return r;
}

// f16 by bits: exponents are shifted by 112; subnormals are 2^-24 multiples.
INLINE float halfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, rest = h & 0x7fffu;
  if (rest >= 0x7c00) return bits<float>(sign | 0x7f800000u | (rest & 0x3ff) << 13);
  if (rest < 0x400) return bits<float>(sign | bits<uint32_t>(static_cast<float>(rest) * 0x1p-24f));
  return bits<float>(sign | ((rest << 13) + (112u << 23)));
}
INLINE uint16_t floatToHalf(float x) {  // nearest even
  const uint32_t u = bits<uint32_t>(x), sign = u >> 16 & 0x8000, rest = u & 0x7fffffffu;
  if (rest > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00);
  if (rest >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);
  if (rest < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the multiple of 2^-24 in the low bits
    const float f = bits<float>(rest) + 0.5f;
    return static_cast<uint16_t>(sign | (bits<uint32_t>(f) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((rest - (112u << 23) + 0xfffu + (rest >> 13 & 1)) >> 13));
}

INLINE Vf set1(float x) { return {Float4{x, x, x, x}}; }
INLINE Vf load(const float* p) {
  Vf r;
  memcpy(&r, p, 16);
  return r;
}
INLINE Vf loadPart(const float* p, int n) {
  Vf r = {};
  for (int i = 0; i < n; ++i) r.v[i] = p[i];
  return r;
}
INLINE void store(float* p, Vf a) { memcpy(p, &a, 16); }
INLINE void storePart(float* p, Vf a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
INLINE Vf loadHalfPart(const uint16_t* p, int n) {
  Vf r = {};
  for (int i = 0; i < n; ++i) r.v[i] = halfToFloat(p[i]);
  return r;
}
INLINE Vf loadHalf(const uint16_t* p) { return loadHalfPart(p, 4); }
INLINE void storeHalf(uint16_t* p, Vf a) {
  for (int i = 0; i < 4; ++i) p[i] = floatToHalf(a.v[i]);
}
INLINE Vf loadByteFloats(const uint8_t* p) {  // kLanes bytes
  Vf r = {};
  for (int i = 0; i < 4; ++i) r.v[i] = static_cast<float>(p[i]);
  return r;
}
INLINE Vf loadPowers(const uint8_t* p) {  // kLanes times 2^(byte - 127)
  Vf r = {};
  for (int i = 0; i < 4; ++i) r.v[i] = bits<float>(p[i] == 0 ? 0x400000u : static_cast<uint32_t>(p[i]) << 23);
  return r;
}
INLINE Vf loadBf16Part(const uint16_t* p, int n) {
  Vf r = {};
  for (int i = 0; i < n; ++i) r.v[i] = bits<float>(static_cast<uint32_t>(p[i]) << 16);
  return r;
}
INLINE Vf loadBf16(const uint16_t* p) { return loadBf16Part(p, 4); }

INLINE Vf fma(Vf a, Vf b, Vf c) { return {a.v * b.v + c.v}; }
INLINE Vf add(Vf a, Vf b) { return {a.v + b.v}; }
INLINE Vf sub(Vf a, Vf b) { return {a.v - b.v}; }
INLINE Vf mul(Vf a, Vf b) { return {a.v * b.v}; }
INLINE Vf div(Vf a, Vf b) { return {a.v / b.v}; }
INLINE Vf vmax(Vf a, Vf b) { return {a.v > b.v ? a.v : b.v}; }
INLINE Vf vmin(Vf a, Vf b) { return {a.v < b.v ? a.v : b.v}; }
INLINE Vf absolute(Vf a) { return {bits<Float4>(bits<Word4>(a.v) & 0x7fffffffu)}; }
INLINE Vf roundEven(Vf a) {  // |a| < 2^22: adding 1.5 * 2^23 leaves no fraction bits
  const Float4 magic = Float4{} + 12582912.0f;
  Float4 r = a.v + magic;
  __asm__("" : "+m"(r));  // the compiler must not cancel the two
  return {r - magic};
}
INLINE Vf scaleByPowerOf2(Vf a, Vf n) {  // in two steps: 2^128 has no float
  const Int4 i = __builtin_convertvector(n.v, Int4), half = i >> 1;
  return {a.v * bits<Float4>((half + 127) << 23) * bits<Float4>((i - half + 127) << 23)};
}
INLINE Vf zeroWhereLess(Vf x, Vf limit, Vf a) { return {bits<Float4>(bits<Word4>(a.v) & ~bits<Word4>(x.v < limit.v))}; }
INLINE Vf roundToHalf(Vf a) {
  for (int i = 0; i < 4; ++i) a.v[i] = halfToFloat(floatToHalf(a.v[i]));
  return a;
}
INLINE Vf roundToBf16(Vf a) {  // finite values; nearest even
  const Word4 u = bits<Word4>(a.v);
  return {bits<Float4>((u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u)};
}
INLINE void storeBf16(uint16_t* p, Vf a) {  // rounded values
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint16_t>(bits<uint32_t>(a.v[i]) >> 16);
}
// Numbers of the lanes in [low, high], counted from `first`; returns how many.
INLINE int positionsWithin(Vf a, Vf low, Vf high, uint32_t first, uint32_t* out) {
  int found = 0;
  for (uint32_t i = 0; i < 4; ++i)
    if (a.v[i] >= low.v[i] && a.v[i] <= high.v[i]) out[found++] = first + i;
  return found;
}

INLINE float hsum(Vf a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
INLINE void hsum4(Vf a, Vf b, Vf c, Vf d, float* out) {
  out[0] = hsum(a);
  out[1] = hsum(b);
  out[2] = hsum(c);
  out[3] = hsum(d);
}
INLINE float hmax(Vf a) {
  const float x = a.v[0] > a.v[1] ? a.v[0] : a.v[1], y = a.v[2] > a.v[3] ? a.v[2] : a.v[3];
  return x > y ? x : y;
}

INLINE Vi setInt(int32_t x) { return {Word4{} + static_cast<uint32_t>(x)}; }
INLINE Vi loadInt(const void* p) {
  Vi r;
  memcpy(&r, p, 16);
  return r;
}
template <int n>
INLINE Vi shr(Vi a) {
  return {a.v >> n};
}
template <int n>
INLINE Vi shl(Vi a) {
  return {a.v << n};
}
template <int n>
INLINE Vi sra(Vi a) {
  return {bits<Word4>(bits<Int4>(a.v) >> n)};
}
INLINE Vi add(Vi a, Vi b) { return {a.v + b.v}; }
INLINE Vi sub(Vi a, Vi b) { return {a.v - b.v}; }
INLINE Vi mul(Vi a, Vi b) { return {a.v * b.v}; }  // the low half
INLINE Vi bxor(Vi a, Vi b) { return {a.v ^ b.v}; }
INLINE Vi asInt(Vf a) { return {bits<Word4>(a.v)}; }
INLINE Vf asFloat(Vi a) { return {bits<Float4>(a.v)}; }
// Tables of 16: values picked by the low four bits of each dword, and bytes by each byte below 16.
struct ValueTable {
  float v[16];
};
INLINE ValueTable loadValues(const float* p) {
  ValueTable r;
  memcpy(&r, p, sizeof r);
  return r;
}
INLINE Vf pick(const ValueTable& table, Vi i) {
  Vf r = {};
  for (int l = 0; l < 4; ++l) r.v[l] = table.v[i.v[l] & 15];
  return r;
}
INLINE Vi loadByteTable(const uint8_t* p) { return loadInt(p); }
INLINE Vi pickBytes(Vi table, Vi i) {
  uint8_t t[16], at[16];
  memcpy(t, &table, 16);
  memcpy(at, &i, 16);
  for (int b = 0; b < 16; ++b) at[b] = t[at[b] & 15];
  return loadInt(at);
}
INLINE Vi band(Vi a, Vi b) { return {a.v & b.v}; }
INLINE Vi bor(Vi a, Vi b) { return {a.v | b.v}; }
INLINE Vi orBits(Vi a, Vi b, Vi mask) { return bor(a, band(b, mask)); }
INLINE Vf toFloat(Vi a) { return {__builtin_convertvector(bits<Int4>(a.v), Float4)}; }
template <int b>
INLINE Vf byteToFloat(Vi a, Vf minus) {  // 2^23 + byte as bits, then the difference is exact
  return {bits<Float4>((a.v >> (8 * b) & 255u) | 0x4b000000u) - minus.v};
}
INLINE Vi dot4(Vi acc, Vi codes, int32_t x) {
  const uint32_t u = static_cast<uint32_t>(x);
  for (int b = 0; b < 4; ++b) acc.v += (codes.v >> (8 * b) & 255u) * static_cast<uint32_t>(static_cast<int8_t>(u >> (8 * b)));
  return acc;
}
INLINE void storeInt8(int8_t* p, Vf a) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(a.v[i]);
}
INLINE void storeCodes(uint8_t* p, Vf a) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(a.v[i]);
}
// 32 codes of a sealed group as floats.
template <int Bits>
INLINE void codesOf32(const uint8_t* p, Vf (&out)[8]) {
  for (int i = 0; i < 32; ++i) out[i / kLanes].v[i % kLanes] = static_cast<float>(codeAt(Bits, p, 32, i));
}

INLINE void transpose(Vf (&m)[4]) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < i; ++j) {
      const float t = m[i].v[j];
      m[i].v[j] = m[j].v[i];
      m[j].v[i] = t;
    }
}

}  // namespace
}  // namespace winnow::cpu
