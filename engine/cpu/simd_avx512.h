// SPDX-License-Identifier: GPL-3.0-or-later
// Part of simd.h: 16 lanes, AVX-512 F, BW, DQ, VL.
#pragma once

namespace winnow::cpu {
namespace {

constexpr int kLanes = 16;
struct Vf {
  __m512 v;
};
struct Vi {
  __m512i v;
};

INLINE __mmask16 firstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

INLINE uint16_t floatToHalf(float x) { return static_cast<uint16_t>(_cvtss_sh(x, 0)); }
INLINE float halfToFloat(uint16_t h) { return _cvtsh_ss(h); }

INLINE Vf set1(float x) { return {_mm512_set1_ps(x)}; }
INLINE Vf load(const float* p) { return {_mm512_loadu_ps(p)}; }
INLINE Vf loadPart(const float* p, int n) { return {_mm512_maskz_loadu_ps(firstLanes(n), p)}; }
INLINE void store(float* p, Vf a) { _mm512_storeu_ps(p, a.v); }
INLINE void storePart(float* p, Vf a, int n) { _mm512_mask_storeu_ps(p, firstLanes(n), a.v); }
INLINE Vf loadHalf(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
INLINE Vf loadHalfPart(const uint16_t* p, int n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(firstLanes(n), p))}; }
INLINE void storeHalf(uint16_t* p, Vf a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, 0)); }
INLINE Vf loadByteFloats(const uint8_t* p) {  // kLanes bytes
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
INLINE Vf loadPowers(const uint8_t* p) {  // kLanes times 2^(byte - 127)
  const __m512i e = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 23);
  return {_mm512_castsi512_ps(_mm512_max_epi32(e, _mm512_set1_epi32(0x400000)))};  // 2^-127 is subnormal
}
INLINE Vf fromBf16(__m256i h) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))}; }
INLINE Vf loadBf16(const uint16_t* p) { return fromBf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
INLINE Vf loadBf16Part(const uint16_t* p, int n) { return fromBf16(_mm256_maskz_loadu_epi16(firstLanes(n), p)); }

INLINE Vf fma(Vf a, Vf b, Vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
INLINE Vf add(Vf a, Vf b) { return {_mm512_add_ps(a.v, b.v)}; }
INLINE Vf sub(Vf a, Vf b) { return {_mm512_sub_ps(a.v, b.v)}; }
INLINE Vf mul(Vf a, Vf b) { return {_mm512_mul_ps(a.v, b.v)}; }
INLINE Vf div(Vf a, Vf b) { return {_mm512_div_ps(a.v, b.v)}; }
INLINE Vf vmax(Vf a, Vf b) { return {_mm512_max_ps(a.v, b.v)}; }
INLINE Vf vmin(Vf a, Vf b) { return {_mm512_min_ps(a.v, b.v)}; }
INLINE Vf absolute(Vf a) { return {_mm512_abs_ps(a.v)}; }
INLINE Vf roundEven(Vf a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
INLINE Vf scaleByPowerOf2(Vf a, Vf n) { return {_mm512_scalef_ps(a.v, n.v)}; }
INLINE Vf zeroWhereLess(Vf x, Vf limit, Vf a) { return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), a.v)}; }
INLINE Vf roundToHalf(Vf a) { return {_mm512_cvtph_ps(_mm512_cvtps_ph(a.v, 0))}; }
INLINE Vf roundToBf16(Vf a) {  // finite values; nearest even
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return {_mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

INLINE void storeBf16(uint16_t* p, Vf a) {  // rounded values
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(a.v), 16)));
}
// Numbers of the lanes in [low, high], counted from `first`; writes kLanes, returns how many count.
INLINE int positionsWithin(Vf a, Vf low, Vf high, uint32_t first, uint32_t* out) {
  const __mmask16 in = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a.v, low.v, _CMP_GE_OQ), a.v, high.v, _CMP_LE_OQ);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(in, _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(first)))));
  return __builtin_popcount(in);
}

INLINE __m256 halves(__m512 a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
INLINE __m128 quarters(__m256 a) { return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); }
INLINE void hsum4(Vf a, Vf b, Vf c, Vf d, float* out) {  // out[4]
  const __m256 ab = _mm256_hadd_ps(halves(a.v), halves(b.v)), cd = _mm256_hadd_ps(halves(c.v), halves(d.v));
  _mm_storeu_ps(out, quarters(_mm256_hadd_ps(ab, cd)));
}
INLINE float hsum(Vf a) {  // the order of hsum4
  const __m256 h = halves(a.v), s = _mm256_hadd_ps(h, h);
  return _mm_cvtss_f32(quarters(_mm256_hadd_ps(s, s)));
}
INLINE float hmax(Vf a) {
  __m256 m = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

INLINE Vi setInt(int32_t x) { return {_mm512_set1_epi32(x)}; }
INLINE Vi loadInt(const void* p) { return {_mm512_loadu_si512(p)}; }
template <int n>
INLINE Vi shr(Vi a) {
  return {_mm512_srli_epi32(a.v, n)};
}
template <int n>
INLINE Vi shl(Vi a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
INLINE Vi sra(Vi a) {
  return {_mm512_srai_epi32(a.v, n)};
}
INLINE Vi add(Vi a, Vi b) { return {_mm512_add_epi32(a.v, b.v)}; }
INLINE Vi sub(Vi a, Vi b) { return {_mm512_sub_epi32(a.v, b.v)}; }
INLINE Vi mul(Vi a, Vi b) { return {_mm512_mullo_epi32(a.v, b.v)}; }  // the low half
INLINE Vi bxor(Vi a, Vi b) { return {_mm512_xor_si512(a.v, b.v)}; }
INLINE Vi asInt(Vf a) { return {_mm512_castps_si512(a.v)}; }
INLINE Vf asFloat(Vi a) { return {_mm512_castsi512_ps(a.v)}; }
// Tables of 16: values picked by the low four bits of each dword, and bytes by each byte below 16.
struct ValueTable {
  __m512 v;
};
INLINE ValueTable loadValues(const float* p) { return {_mm512_loadu_ps(p)}; }
INLINE Vf pick(const ValueTable& table, Vi i) { return {_mm512_permutexvar_ps(i.v, table.v)}; }
INLINE Vi loadByteTable(const uint8_t* p) { return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
INLINE Vi pickBytes(Vi table, Vi i) { return {_mm512_shuffle_epi8(table.v, i.v)}; }
INLINE Vi band(Vi a, Vi b) { return {_mm512_and_si512(a.v, b.v)}; }
INLINE Vi bor(Vi a, Vi b) { return {_mm512_or_si512(a.v, b.v)}; }
INLINE Vi orBits(Vi a, Vi b, Vi mask) { return {_mm512_ternarylogic_epi32(a.v, b.v, mask.v, 0xf8)}; }
INLINE Vf toFloat(Vi a) { return {_mm512_cvtepi32_ps(a.v)}; }
template <int b>
INLINE Vf byteToFloat(Vi a, Vf minus) {  // 2^23 + byte as bits, then the difference is exact
  const __m512i shifted = b == 0 ? a.v : _mm512_srli_epi32(a.v, 8 * b);
  const __m512i magic = _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi32(255), _mm512_set1_epi32(0x4b000000), 0xea);  // (A & B) | C
  return {_mm512_sub_ps(_mm512_castsi512_ps(magic), minus.v)};
}
INLINE Vi dot4(Vi acc, Vi codes, int32_t x) {
#if defined(__AVX512VNNI__)
  return {_mm512_dpbusd_epi32(acc.v, codes.v, _mm512_set1_epi32(x))};
#else
  const __m512i b = _mm512_set1_epi32(x);
  const __m512i even = _mm512_madd_epi16(_mm512_and_si512(codes.v, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(codes.v, 8), _mm512_srai_epi16(b, 8));
  return {_mm512_add_epi32(acc.v, _mm512_add_epi32(even, odd))};
#endif
}
INLINE void storeInt8(int8_t* p, Vf a) {  // kLanes integers in [-128, 127]
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
INLINE void storeCodes(uint8_t* p, Vf a) {  // kLanes integers in [0, 255]
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

// Rows become columns: 4x4 dword blocks inside 128-bit lanes, then the lanes.
// 32 codes of a sealed group (engine/cache/codes.h) as floats.
template <int Bits>
INLINE void codesOf32(const uint8_t* p, Vf (&out)[2]) {
  __m512i low, high;
  if constexpr (Bits == 8) {
    low = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    high = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)));
  } else if constexpr (Bits == 4) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
    high = _mm512_srli_epi32(bytes, 4);
  } else {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_castpd_si128(_mm_loaddup_pd(reinterpret_cast<const double*>(p))));
    const __m512i two = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2), three = _mm512_set1_epi32(3);
    low = _mm512_and_si512(_mm512_srlv_epi32(bytes, two), three);
    high = _mm512_and_si512(_mm512_srlv_epi32(bytes, _mm512_add_epi32(two, _mm512_set1_epi32(4))), three);
    if constexpr (Bits == 3) {
      uint32_t word;
      memcpy(&word, p + 8, 4);
      low = _mm512_mask_or_epi32(low, static_cast<__mmask16>(word), low, _mm512_set1_epi32(4));
      high = _mm512_mask_or_epi32(high, static_cast<__mmask16>(word >> 16), high, _mm512_set1_epi32(4));
    }
  }
  out[0] = {_mm512_cvtepi32_ps(low)};
  out[1] = {_mm512_cvtepi32_ps(high)};
}

INLINE void transpose(Vf (&m)[16]) {
  __m512 t[16];
  UNROLL for (int i = 0; i < 16; i += 4) {
    const __m512 a = _mm512_unpacklo_ps(m[i].v, m[i + 1].v), b = _mm512_unpackhi_ps(m[i].v, m[i + 1].v);
    const __m512 c = _mm512_unpacklo_ps(m[i + 2].v, m[i + 3].v), d = _mm512_unpackhi_ps(m[i + 2].v, m[i + 3].v);
    t[i] = _mm512_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
  }
  UNROLL for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88), d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
    m[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    m[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    m[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    m[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

}  // namespace
}  // namespace winnow::cpu
