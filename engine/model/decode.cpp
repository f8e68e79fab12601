// SPDX-License-Identifier: GPL-3.0-or-later
// Layouts (bytes of a block, little-endian; d, m and dmin are f16):
//   q8_0  d, int8 q[32]                     value d q
//   q4_0  d, nibbles[16]                    value d (q - 8);  byte j holds element j (low) and j + 16 (high)
//   q4_1  d, m, nibbles[16]                 value d q + m
//   q5_0  d, high[4], nibbles[16]           value d (q - 16); bit j of high is bit 4 of element j
//   q5_1  d, m, high[4], nibbles[16]        value d q + m
//   q2_k  scale:min nibbles[16], q[64], d, dmin        16 sub-blocks of 16: d s q - dmin m
//   q3_k  high[32], q[64], scales[12], d               16 sub-blocks of 16: d (s - 32)(q - 4 unless the high bit is set)
//   q4_k  d, dmin, scales[12], nibbles[128]            8 sub-blocks of 32: d s q - dmin m
//   q5_k  d, dmin, scales[12], high[32], nibbles[128]  the same with a fifth bit
//   q6_k  low[128], high[64], int8 scales[16], d       16 sub-blocks of 16: d s (q - 32)
//   mxfp4 e, nibbles[16]                    E2M1 codes, value 2^(e - 127) {0, .5, 1, 1.5, 2, 3, 4, 6}, bit 3 is the sign; as in q4_0
// The 2-bit fields of q2_k, q3_k and q6_k run over a half (128 values) in four steps of 32 values, 2 bits further each step.
#include "engine/model/decode.h"

#include <bit>
#include <cmath>

#include "engine/core/check.h"

namespace winnow {
namespace {

uint8_t at(const std::byte* p, int i) { return static_cast<uint8_t>(p[i]); }
int signedAt(const std::byte* p, int i) { return static_cast<int8_t>(at(p, i)); }
uint16_t halfBits(const std::byte* p) { return static_cast<uint16_t>(at(p, 0) | at(p, 1) << 8); }

// f16 in integer steps: the compiler vectorizes it, and subnormals are exact even when the processor flushes them.
float halfToFloat(uint16_t h) {
  const uint32_t magnitude = (h & 0x7fffu) << 13, exponent = h & 0x7c00u;
  const uint32_t normal = magnitude + (112u << 23), special = magnitude | 0x7f800000u;
  const uint32_t tiny = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude + (113u << 23)) - std::bit_cast<float>(113u << 23));
  // Masks by arithmetic: with comparisons GCC makes branches of them.
  const uint32_t isTiny = 0u - ((exponent - 1) >> 31), isSpecial = 0u - ((exponent + 0x400) >> 15);
  const uint32_t bits = (tiny & isTiny) | (special & isSpecial) | (normal & ~(isTiny | isSpecial));
  return std::bit_cast<float>(bits | (h & 0x8000u) << 16);
}
float halfAt(const std::byte* p) { return halfToFloat(halfBits(p)); }

void decodeHalf(const std::byte* from, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t h;
    std::memcpy(&h, from + 2 * i, 2);
    out[i] = halfToFloat(h);
  }
}
void decodeBf16(const std::byte* from, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t h;
    std::memcpy(&h, from + 2 * i, 2);
    out[i] = bf16ToFloat(h);
  }
}

void q8_0(const std::byte* b, float* out) {
  const float d = halfAt(b);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(signedAt(b + 2, j));
}
void q4_0(const std::byte* b, float* out) {
  const float d = halfAt(b);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((at(b + 2, j) & 15) - 8);
    out[j + 16] = d * static_cast<float>((at(b + 2, j) >> 4) - 8);
  }
}
void q4_1(const std::byte* b, float* out) {
  const float d = halfAt(b), m = halfAt(b + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(at(b + 4, j) & 15) + m;
    out[j + 16] = d * static_cast<float>(at(b + 4, j) >> 4) + m;
  }
}
uint32_t word(const std::byte* p) {
  return static_cast<uint32_t>(at(p, 0)) | static_cast<uint32_t>(at(p, 1)) << 8 | static_cast<uint32_t>(at(p, 2)) << 16 |
         static_cast<uint32_t>(at(p, 3)) << 24;
}
// Elements j and j + 16 with their fifth bits.
int lowFive(const std::byte* nibbles, uint32_t high, int j) { return (at(nibbles, j) & 15) | static_cast<int>(high >> j & 1) << 4; }
int highFive(const std::byte* nibbles, uint32_t high, int j) { return at(nibbles, j) >> 4 | static_cast<int>(high >> (j + 16) & 1) << 4; }
void q5_0(const std::byte* b, float* out) {
  const float d = halfAt(b);
  const uint32_t high = word(b + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(lowFive(b + 6, high, j) - 16);
    out[j + 16] = d * static_cast<float>(highFive(b + 6, high, j) - 16);
  }
}
void q5_1(const std::byte* b, float* out) {
  const float d = halfAt(b), m = halfAt(b + 2);
  const uint32_t high = word(b + 4);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(lowFive(b + 8, high, j)) + m;
    out[j + 16] = d * static_cast<float>(highFive(b + 8, high, j)) + m;
  }
}

void q2_k(const std::byte* b, float* out) {
  const std::byte *scales = b, *q = b + 16;
  const float d = halfAt(b + 80), dmin = halfAt(b + 82);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(at(scales, sub) & 15), min = dmin * static_cast<float>(at(scales, sub) >> 4);
    const std::byte* from = q + sub / 8 * 32 + sub % 2 * 16;
    const int shift = sub % 8 / 2 * 2;
    for (int l = 0; l < 16; ++l) out[16 * sub + l] = scale * static_cast<float>(at(from, l) >> shift & 3) - min;
  }
}

void q3_k(const std::byte* b, float* out) {
  const std::byte *high = b, *q = b + 32, *scales = b + 96;
  const float d = halfAt(b + 108);
  for (int sub = 0; sub < 16; ++sub) {
    const int low = sub < 8 ? at(scales, sub) & 15 : at(scales, sub - 8) >> 4;
    const int top = at(scales, 8 + sub % 4) >> (sub / 4 * 2) & 3;
    const float scale = d * static_cast<float>((low | top << 4) - 32);
    const int step = sub / 2;  // 0..7, the bit of `high`
    const std::byte *from = q + sub / 8 * 32 + sub % 2 * 16, *bits = high + sub % 2 * 16;
    for (int l = 0; l < 16; ++l) {
      const int value = (at(from, l) >> (step % 4 * 2) & 3) - ((at(bits, l) >> step & 1) ? 0 : 4);
      out[16 * sub + l] = scale * static_cast<float>(value);
    }
  }
}

void q4_k(const std::byte* b, float* out) {
  const float d = halfAt(b), dmin = halfAt(b + 2);
  for (int sub = 0; sub < 8; ++sub) {
    const SubBlockScale s = subBlockScale(b + 4, sub);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    const std::byte* from = b + 16 + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int l = 0; l < 32; ++l) out[32 * sub + l] = scale * static_cast<float>(at(from, l) >> shift & 15) - min;
  }
}
void q5_k(const std::byte* b, float* out) {
  const float d = halfAt(b), dmin = halfAt(b + 2);
  const std::byte* high = b + 16;
  for (int sub = 0; sub < 8; ++sub) {
    const SubBlockScale s = subBlockScale(b + 4, sub);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    const std::byte* from = b + 48 + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int l = 0; l < 32; ++l)
      out[32 * sub + l] = scale * static_cast<float>((at(from, l) >> shift & 15) | (at(high, l) >> sub & 1) << 4) - min;
  }
}
void q6_k(const std::byte* b, float* out) {
  const float d = halfAt(b + 208);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(signedAt(b + 192, sub));
    const int half = sub / 8, step = sub % 8 / 2, first = sub % 2 * 16;
    const std::byte *low = b + 64 * half + step % 2 * 32 + first, *high = b + 128 + 32 * half + first;
    for (int l = 0; l < 16; ++l) {
      const int value = (at(low, l) >> (step / 2 * 4) & 15) | (at(high, l) >> (2 * step) & 3) << 4;
      out[16 * sub + l] = scale * static_cast<float>(value - 32);
    }
  }
}

void mxfp4(const std::byte* b, float* out) {
  constexpr float halves[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};
  const float half = std::ldexp(1.0f, at(b, 0) - 128);
  for (int j = 0; j < 16; ++j) {
    out[j] = half * halves[at(b + 1, j) & 15];
    out[j + 16] = half * halves[at(b + 1, j) >> 4];
  }
}

template <void (*Block)(const std::byte*, float*)>
void decodeBlocks(DType type, const std::byte* from, int64_t count, float* out) {
  const DTypeTraits traits = dtypeTraits(type);
  for (int64_t i = 0; i < count; i += traits.blockValues, from += traits.blockBytes) Block(from, out + i);
}

}  // namespace

void decodeValues(DType type, const std::byte* from, int64_t count, float* out) {
  CHECK(count % dtypeTraits(type).blockValues == 0, count);
  switch (type) {
    case DType::f32: std::memcpy(out, from, static_cast<size_t>(count) * 4); return;
    case DType::f16: return decodeHalf(from, count, out);
    case DType::bf16: return decodeBf16(from, count, out);
    case DType::q8_0: return decodeBlocks<q8_0>(type, from, count, out);
    case DType::q4_0: return decodeBlocks<q4_0>(type, from, count, out);
    case DType::q4_1: return decodeBlocks<q4_1>(type, from, count, out);
    case DType::q5_0: return decodeBlocks<q5_0>(type, from, count, out);
    case DType::q5_1: return decodeBlocks<q5_1>(type, from, count, out);
    case DType::q2_k: return decodeBlocks<q2_k>(type, from, count, out);
    case DType::q3_k: return decodeBlocks<q3_k>(type, from, count, out);
    case DType::q4_k: return decodeBlocks<q4_k>(type, from, count, out);
    case DType::q5_k: return decodeBlocks<q5_k>(type, from, count, out);
    case DType::q6_k: return decodeBlocks<q6_k>(type, from, count, out);
    case DType::mxfp4: return decodeBlocks<mxfp4>(type, from, count, out);
    case DType::count: break;
  }
  CHECK(false, static_cast<int>(type));
}

namespace {

template <class Word>
int64_t firstWithExponent(const std::byte* from, int64_t count, Word exponent) {
  constexpr int64_t chunk = 4096;  // the inner loop has no exit, so that it vectorizes
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t end = begin + chunk < count ? begin + chunk : count;
    Word found = 0;
    for (int64_t i = begin; i < end; ++i) {
      Word w;
      std::memcpy(&w, from + i * static_cast<int64_t>(sizeof w), sizeof w);
      found |= static_cast<Word>((w & exponent) == exponent);
    }
    if (!found) continue;
    for (int64_t i = begin; i < end; ++i) {
      Word w;
      std::memcpy(&w, from + i * static_cast<int64_t>(sizeof w), sizeof w);
      if ((w & exponent) == exponent) return i;
    }
  }
  return -1;
}

// Where the f16 scales of a block lie.
struct ScalePlaces {
  int first, second;  // second < 0: there is one
};
ScalePlaces scalePlaces(DType type) {
  switch (type) {
    case DType::q4_1: case DType::q5_1: case DType::q4_k: case DType::q5_k: return {0, 2};
    case DType::q2_k: return {80, 82};
    case DType::q3_k: return {108, -1};
    case DType::q6_k: return {208, -1};
    default: return {0, -1};
  }
}

}  // namespace

int64_t firstNotFinite(DType type, const std::byte* from, int64_t count) {
  if (type == DType::f32) return firstWithExponent<uint32_t>(from, count, 0x7f800000u);
  if (type == DType::f16) return firstWithExponent<uint16_t>(from, count, 0x7c00u);
  if (type == DType::bf16) return firstWithExponent<uint16_t>(from, count, 0x7f80u);
  const DTypeTraits traits = dtypeTraits(type);
  if (type == DType::mxfp4) {
    constexpr int kBeyond = 253;  // 6 times that power of two is no f32; 255 stands for no number
    for (int64_t i = 0; i < count; i += traits.blockValues, from += traits.blockBytes)
      if (at(from, 0) >= kBeyond) return i;
    return -1;
  }
  const ScalePlaces places = scalePlaces(type);
  const auto bad = [](const std::byte* p) { return (halfBits(p) & 0x7c00u) == 0x7c00u; };
  for (int64_t i = 0; i < count; i += traits.blockValues, from += traits.blockBytes)
    if (bad(from + places.first) || (places.second >= 0 && bad(from + places.second))) return i;
  return -1;
}

}  // namespace winnow
