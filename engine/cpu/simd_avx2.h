// SPDX-License-Identifier: GPL-3.0-or-later
// Part of simd.h: 8 lanes, AVX2, FMA, F16C.
#pragma once

namespace winnow::cpu {
namespace {

constexpr int kLanes = 8;
struct Vf {
  __m256 v;
};
struct Vi {
  __m256i v;
};

INLINE __m256i firstLanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
INLINE __m128i loadWords(const uint16_t* p, int n) {  // zero beyond n
  uint16_t t[8] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(t));
}

INLINE uint16_t floatToHalf(float x) { return static_cast<uint16_t>(_cvtss_sh(x, 0)); }
INLINE float halfToFloat(uint16_t h) { return _cvtsh_ss(h); }

INLINE Vf set1(float x) { return {_mm256_set1_ps(x)}; }
INLINE Vf load(const float* p) { return {_mm256_loadu_ps(p)}; }
INLINE Vf loadPart(const float* p, int n) { return {_mm256_maskload_ps(p, firstLanes(n))}; }
INLINE void store(float* p, Vf a) { _mm256_storeu_ps(p, a.v); }
INLINE void storePart(float* p, Vf a, int n) { _mm256_maskstore_ps(p, firstLanes(n), a.v); }
INLINE Vf loadHalf(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
INLINE Vf loadHalfPart(const uint16_t* p, int n) { return {_mm256_cvtph_ps(loadWords(p, n))}; }
INLINE void storeHalf(uint16_t* p, Vf a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, 0)); }
INLINE Vf loadByteFloats(const uint8_t* p) {  // kLanes bytes
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
INLINE Vf loadPowers(const uint8_t* p) {  // kLanes times 2^(byte - 127)
  const __m256i e = _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), 23);
  return {_mm256_castsi256_ps(_mm256_max_epi32(e, _mm256_set1_epi32(0x400000)))};  // 2^-127 is subnormal
}
INLINE Vf fromBf16(__m128i h) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))}; }
INLINE Vf loadBf16(const uint16_t* p) { return fromBf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
INLINE Vf loadBf16Part(const uint16_t* p, int n) { return fromBf16(loadWords(p, n)); }

INLINE Vf fma(Vf a, Vf b, Vf c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
INLINE Vf add(Vf a, Vf b) { return {_mm256_add_ps(a.v, b.v)}; }
INLINE Vf sub(Vf a, Vf b) { return {_mm256_sub_ps(a.v, b.v)}; }
INLINE Vf mul(Vf a, Vf b) { return {_mm256_mul_ps(a.v, b.v)}; }
INLINE Vf div(Vf a, Vf b) { return {_mm256_div_ps(a.v, b.v)}; }
INLINE Vf vmax(Vf a, Vf b) { return {_mm256_max_ps(a.v, b.v)}; }
INLINE Vf vmin(Vf a, Vf b) { return {_mm256_min_ps(a.v, b.v)}; }
INLINE Vf absolute(Vf a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
INLINE Vf roundEven(Vf a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
INLINE Vf scaleByPowerOf2(Vf a, Vf n) {  // in two steps: 2^128 has no float
  const __m256i i = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
  const __m256 x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, x), y)};
}
INLINE Vf zeroWhereLess(Vf x, Vf limit, Vf a) { return {_mm256_andnot_ps(_mm256_cmp_ps(x.v, limit.v, _CMP_LT_OQ), a.v)}; }
INLINE Vf roundToHalf(Vf a) { return {_mm256_cvtph_ps(_mm256_cvtps_ph(a.v, 0))}; }
INLINE Vf roundToBf16(Vf a) {  // finite values; nearest even
  const __m256i u = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return {_mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}

INLINE void storeBf16(uint16_t* p, Vf a) {  // rounded values
  const __m256i u = _mm256_srli_epi32(_mm256_castps_si256(a.v), 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1)));
}
// Numbers of the lanes in [low, high], counted from `first`; returns how many.
INLINE int positionsWithin(Vf a, Vf low, Vf high, uint32_t first, uint32_t* out) {
  int found = 0;
  const __m256 in = _mm256_and_ps(_mm256_cmp_ps(a.v, low.v, _CMP_GE_OQ), _mm256_cmp_ps(a.v, high.v, _CMP_LE_OQ));
  for (auto mask = static_cast<unsigned>(_mm256_movemask_ps(in)); mask != 0; mask &= mask - 1)
    out[found++] = first + static_cast<uint32_t>(__builtin_ctz(mask));
  return found;
}

INLINE __m128 quarters(__m256 a) { return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); }
INLINE void hsum4(Vf a, Vf b, Vf c, Vf d, float* out) {  // out[4]
  _mm_storeu_ps(out, quarters(_mm256_hadd_ps(_mm256_hadd_ps(a.v, b.v), _mm256_hadd_ps(c.v, d.v))));
}
INLINE float hsum(Vf a) {  // the order of hsum4
  const __m256 s = _mm256_hadd_ps(a.v, a.v);
  return _mm_cvtss_f32(quarters(_mm256_hadd_ps(s, s)));
}
INLINE float hmax(Vf a) {
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

INLINE Vi setInt(int32_t x) { return {_mm256_set1_epi32(x)}; }
INLINE Vi loadInt(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
template <int n>
INLINE Vi shr(Vi a) {
  return {_mm256_srli_epi32(a.v, n)};
}
template <int n>
INLINE Vi shl(Vi a) {
  return {_mm256_slli_epi32(a.v, n)};
}
template <int n>
INLINE Vi sra(Vi a) {
  return {_mm256_srai_epi32(a.v, n)};
}
INLINE Vi add(Vi a, Vi b) { return {_mm256_add_epi32(a.v, b.v)}; }
INLINE Vi sub(Vi a, Vi b) { return {_mm256_sub_epi32(a.v, b.v)}; }
INLINE Vi mul(Vi a, Vi b) { return {_mm256_mullo_epi32(a.v, b.v)}; }  // the low half
INLINE Vi bxor(Vi a, Vi b) { return {_mm256_xor_si256(a.v, b.v)}; }
INLINE Vi asInt(Vf a) { return {_mm256_castps_si256(a.v)}; }
INLINE Vf asFloat(Vi a) { return {_mm256_castsi256_ps(a.v)}; }
// Tables of 16: values picked by the low four bits of each dword, and bytes by each byte below 16.
struct ValueTable {
  __m256 low, high;
};
INLINE ValueTable loadValues(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE Vf pick(const ValueTable& table, Vi i) {
  const __m256 low = _mm256_permutevar8x32_ps(table.low, i.v), high = _mm256_permutevar8x32_ps(table.high, i.v);
  return {_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i.v, 28)))};
}
INLINE Vi loadByteTable(const uint8_t* p) { return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
INLINE Vi pickBytes(Vi table, Vi i) { return {_mm256_shuffle_epi8(table.v, i.v)}; }
INLINE Vi band(Vi a, Vi b) { return {_mm256_and_si256(a.v, b.v)}; }
INLINE Vi bor(Vi a, Vi b) { return {_mm256_or_si256(a.v, b.v)}; }
INLINE Vi orBits(Vi a, Vi b, Vi mask) { return bor(a, band(b, mask)); }
INLINE Vf toFloat(Vi a) { return {_mm256_cvtepi32_ps(a.v)}; }
template <int b>
INLINE Vf byteToFloat(Vi a, Vf minus) {  // 2^23 + byte as bits, then the difference is exact
  const __m256i shifted = b == 0 ? a.v : _mm256_srli_epi32(a.v, 8 * b);
  const __m256i byte = b == 3 ? shifted : _mm256_and_si256(shifted, _mm256_set1_epi32(255));
  return {_mm256_sub_ps(_mm256_castsi256_ps(_mm256_or_si256(byte, _mm256_set1_epi32(0x4b000000))), minus.v)};
}
INLINE Vi dot4(Vi acc, Vi codes, int32_t x) {  // in 16 bits: maddubs would saturate on 8-bit codes
  const __m256i b = _mm256_set1_epi32(x);
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes.v, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes.v, 8), _mm256_srai_epi16(b, 8));
  return {_mm256_add_epi32(acc.v, _mm256_add_epi32(even, odd))};
}
INLINE void storeInt8(int8_t* p, Vf a) {  // kLanes integers in [-128, 127]
  const __m256i i = _mm256_cvtps_epi32(a.v);
  const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(w, w));
}
INLINE void storeCodes(uint8_t* p, Vf a) {  // kLanes integers in [0, 255]
  const __m256i i = _mm256_cvtps_epi32(a.v);
  const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(w, w));
}

// 32 codes of a sealed group (engine/cache/codes.h) as floats.
template <int Bits>
INLINE void codesOf32(const uint8_t* p, Vf (&out)[4]) {
  const auto bytes = [](const uint8_t* q) INLINE_LAMBDA { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q))); };
  __m256i code[4];
  if constexpr (Bits == 8) {
    UNROLL for (int i = 0; i < 4; ++i) code[i] = bytes(p + 8 * i);
  } else if constexpr (Bits == 4) {
    UNROLL for (int i = 0; i < 2; ++i) {
      const __m256i both = bytes(p + 8 * i);
      code[i] = _mm256_and_si256(both, _mm256_set1_epi32(15));
      code[i + 2] = _mm256_srli_epi32(both, 4);
    }
  } else {
    const __m256i all = bytes(p), three = _mm256_set1_epi32(3);
    code[0] = _mm256_and_si256(all, three);
    code[1] = _mm256_and_si256(_mm256_srli_epi32(all, 2), three);
    code[2] = _mm256_and_si256(_mm256_srli_epi32(all, 4), three);
    code[3] = _mm256_srli_epi32(all, 6);
    if constexpr (Bits == 3) {
      int32_t word;
      memcpy(&word, p + 8, 4);
      const __m256i plane = _mm256_set1_epi32(word), lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      UNROLL for (int i = 0; i < 4; ++i) {
        const __m256i bit = _mm256_and_si256(_mm256_srlv_epi32(plane, _mm256_add_epi32(lane, _mm256_set1_epi32(8 * i))), _mm256_set1_epi32(1));
        code[i] = _mm256_or_si256(code[i], _mm256_slli_epi32(bit, 2));
      }
    }
  }
  UNROLL for (int i = 0; i < 4; ++i) out[i] = {_mm256_cvtepi32_ps(code[i])};
}

INLINE void transpose(Vf (&m)[8]) {
  __m256 t[8];
  UNROLL for (int i = 0; i < 8; i += 4) {
    const __m256 a = _mm256_unpacklo_ps(m[i].v, m[i + 1].v), b = _mm256_unpackhi_ps(m[i].v, m[i + 1].v);
    const __m256 c = _mm256_unpacklo_ps(m[i + 2].v, m[i + 3].v), d = _mm256_unpackhi_ps(m[i + 2].v, m[i + 3].v);
    t[i] = _mm256_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
  UNROLL for (int i = 0; i < 4; ++i) {
    m[i].v = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
    m[i + 4].v = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
  }
}

}  // namespace
}  // namespace winnow::cpu
