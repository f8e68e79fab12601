// SPDX-License-Identifier: GPL-3.0-or-later
// Slots of a sealed page (engine/cache/page_form.h, planes.h) as f16 rows. A product of a code and an f16 scale is exact, so every instruction set
// gives the same bits. Groups of 32 go through vectors; smaller ones are those of toy models.
#pragma once
#include "engine/cache/codes.h"
#include "engine/cache/planes.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

constexpr int kGroup = 32, kGroupVectors = kGroup / kLanes;

template <int Bits>
INLINE void unpackGroup(const uint8_t* codes, const Vf (&scale)[kGroupVectors], const Vf (&min)[kGroupVectors], uint16_t* out) {
  Vf code[kGroupVectors];
  codesOf32<Bits>(codes, code);
  UNROLL for (int i = 0; i < kGroupVectors; ++i) storeHalf(out + i * kLanes, fma(code[i], scale[i], min[i]));
}

template <int Bits>
void unpackPerToken(const PageShape& shape, const uint8_t* codes, const uint16_t* scales, int begin, int end, uint16_t* out) {
  const int group = shape.group(), groups = shape.groups(), groupBytes = group * Bits / 8;
  codes += static_cast<size_t>(begin) * shape.rowBytes(Bits);
  scales += static_cast<int64_t>(begin) * groups * 2;
  for (int i = 0; i < (end - begin) * groups; ++i, codes += groupBytes, scales += 2, out += group) {
    const float scale = halfToFloat(scales[0]), min = halfToFloat(scales[1]);
    if (group == kGroup) {
      Vf s[kGroupVectors], m[kGroupVectors];
      UNROLL for (int j = 0; j < kGroupVectors; ++j) {
        s[j] = set1(scale);
        m[j] = set1(min);
      }
      unpackGroup<Bits>(codes, s, m, out);
    } else {
      for (int j = 0; j < group; ++j) out[j] = floatToHalf(static_cast<float>(codeAt(Bits, codes, group, j)) * scale + min);
    }
  }
}

template <int Bits>
void unpackPerChannel(const PageShape& shape, const PageForm& form, const uint8_t* codes, const uint16_t* scales, int begin, int end, uint16_t* out) {
  const int n = shape.headDim, group = shape.group();
  const size_t rowBytes = shape.rowBytes(Bits);
  for (int set = 0, first = 0; set < form.sets && first < end; first = form.ends[set++], scales += 2 * n) {
    const int from = first > begin ? first : begin, to = form.ends[set] < end ? form.ends[set] : end;
    for (int c = 0; c < n; c += group) {
      const uint8_t* p = codes + static_cast<size_t>(from) * rowBytes + c * Bits / 8;
      uint16_t* rows = out + static_cast<int64_t>(from - begin) * n + c;
      if (group == kGroup) {
        Vf s[kGroupVectors], m[kGroupVectors];
        UNROLL for (int j = 0; j < kGroupVectors; ++j) {
          s[j] = loadHalf(scales + c + j * kLanes);
          m[j] = loadHalf(scales + n + c + j * kLanes);
        }
        for (int slot = from; slot < to; ++slot, p += rowBytes, rows += n) unpackGroup<Bits>(p, s, m, rows);
      } else {
        for (int slot = from; slot < to; ++slot, p += rowBytes, rows += n)
          for (int j = 0; j < group; ++j)
            rows[j] = floatToHalf(static_cast<float>(codeAt(Bits, p, group, j)) * halfToFloat(scales[c + j]) + halfToFloat(scales[n + c + j]));
      }
    }
  }
}

INLINE void placeOutliers(const PageShape& shape, const PageForm& form, const uint8_t* page, int begin, int end, uint16_t* out) {
  const int each = form.outliers;
  const uint32_t* outliers = reinterpret_cast<const uint32_t*>(page + shape.codeBytes(form.bits) + shape.scaleBytes(form));
  for (int slot = begin; slot < end; ++slot, out += shape.headDim)
    for (int i = slot * each; i < (slot + 1) * each; ++i) out[outliers[i] >> 16] = static_cast<uint16_t>(outliers[i]);
}

template <int Bits>
void unpackBits(const PageShape& shape, const PageForm& form, const uint8_t* page, int begin, int end, uint16_t* out) {
  const uint16_t* scales = reinterpret_cast<const uint16_t*>(page + shape.codeBytes(Bits));
  if (form.sets > 0)
    unpackPerChannel<Bits>(shape, form, page, scales, begin, end, out);
  else
    unpackPerToken<Bits>(shape, page, scales, begin, end, out);
  if (form.outliers > 0) placeOutliers(shape, form, page, begin, end, out);
}

// A run of values from so many bits of each.
INLINE void joinRun(const uint8_t* __restrict page, const PlaneRuns& at, int run, int bits, uint16_t* __restrict out) {
  const int half = at.along / 2;
  const uint8_t *high = page + run * at.along, *middle = page + at.nibbles(run, false), *low = page + at.nibbles(run, true);
  if (bits == 8) {
    for (int i = 0; i < at.along; ++i) out[i] = static_cast<uint16_t>(high[i] << 8 | 0x80);
  } else if (bits == 12) {
    for (int i = 0; i < half; ++i) out[i] = static_cast<uint16_t>(high[i] << 8 | (middle[i] & 15) << 4 | 8);
    for (int i = 0; i < half; ++i) out[half + i] = static_cast<uint16_t>(high[half + i] << 8 | (middle[i] & 0xf0) | 8);
  } else {
    for (int i = 0; i < half; ++i) out[i] = static_cast<uint16_t>(high[i] << 8 | (middle[i] & 15) << 4 | (low[i] & 15));
    for (int i = 0; i < half; ++i) out[half + i] = static_cast<uint16_t>(high[half + i] << 8 | (middle[i] & 0xf0) | low[i] >> 4);
  }
}

// Channels become rows: two of them to a word, so that a transposition of words serves.
void joinChannels(const PageShape& shape, const uint8_t* page, int begin, int end, const uint8_t* bits, uint16_t* out) {
  constexpr int kMostTokens = 64, kTogether = 2 * kLanes;
  const PlaneRuns at(shape.tokens, shape.headDim, true);
  uint16_t run[2][kMostTokens];
  float words[kLanes][kMostTokens];
  const auto bitsOf = [bits](int c) { return bits ? static_cast<int>(bits[c]) : 16; };
  int c = 0;
  for (; c + kTogether <= shape.headDim && shape.tokens <= kMostTokens; c += kTogether) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < 2; ++j) joinRun(page, at, c + 2 * i + j, bitsOf(c + 2 * i + j), run[j]);
      uint32_t pairs[kMostTokens];
      for (int t = 0; t < shape.tokens; ++t) pairs[t] = run[0][t] | static_cast<uint32_t>(run[1][t]) << 16;
      memcpy(words[i], pairs, static_cast<size_t>(shape.tokens) * sizeof(uint32_t));
    }
    for (int first = begin / kLanes * kLanes; first < end; first += kLanes) {
      Vf block[kLanes];
      UNROLL for (int i = 0; i < kLanes; ++i) block[i] = load(words[i] + first);
      transpose(block);
      for (int i = 0; i < kLanes; ++i)
        if (first + i >= begin && first + i < end) memcpy(out + static_cast<int64_t>(first + i - begin) * shape.headDim + c, &block[i], sizeof(Vf));
    }
  }
  for (; c < shape.headDim; ++c)
    for (int t = begin; t < end; ++t) out[static_cast<int64_t>(t - begin) * shape.headDim + c] = planeValue(page, at, c, t, bitsOf(c));
}

void unpackPlanes(const PageShape& shape, const PageForm& form, const void* page, int begin, int end, const uint8_t* bits, uint16_t* out) {
  const uint8_t* p = static_cast<const uint8_t*>(page);
  if (form.planes == Planes::byChannel) return joinChannels(shape, p, begin, end, bits, out);
  const PlaneRuns at(shape.tokens, shape.headDim, false);
  for (int slot = begin; slot < end; ++slot, out += shape.headDim) joinRun(p, at, slot, bits ? bits[slot - begin] : 16, out);
}

void unpackPage(const PageShape& shape, const PageForm& form, const void* page, int begin, int end, uint16_t* out) {
  const uint8_t* p = static_cast<const uint8_t*>(page);
  switch (form.bits) {
    case 2: return unpackBits<2>(shape, form, p, begin, end, out);
    case 3: return unpackBits<3>(shape, form, p, begin, end, out);
    case 4: return unpackBits<4>(shape, form, p, begin, end, out);
    case 8: return unpackBits<8>(shape, form, p, begin, end, out);
    default: return unpackPlanes(shape, form, page, begin, end, nullptr, out);
  }
}

}  // namespace
}  // namespace winnow::cpu
