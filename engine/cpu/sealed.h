// SPDX-License-Identifier: GPL-3.0-or-later
// Slots of a sealed page (engine/cache/page_form.h) as f16 rows. A product of a code and an f16 scale is exact, so every instruction set
// gives the same bits. Groups of 32 go through vectors; smaller ones are those of toy models.
#pragma once
#include "engine/cache/codes.h"
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

void unpackPage(const PageShape& shape, const PageForm& form, const void* page, int begin, int end, uint16_t* out) {
  const uint8_t* p = static_cast<const uint8_t*>(page);
  switch (form.bits) {
    case 2: return unpackBits<2>(shape, form, p, begin, end, out);
    case 3: return unpackBits<3>(shape, form, p, begin, end, out);
    case 4: return unpackBits<4>(shape, form, p, begin, end, out);
    default: return unpackBits<8>(shape, form, p, begin, end, out);
  }
}

}  // namespace
}  // namespace winnow::cpu
