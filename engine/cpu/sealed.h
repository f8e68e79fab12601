// SPDX-License-Identifier: GPL-3.0-or-later
// Slots of a sealed page (engine/cache/page_form.h) as f16 rows. A product of a code and an f16 scale is exact, so every instruction set
// gives the same bits.
#pragma once
#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

INLINE void storeHalfUpTo(uint16_t* p, Vf a, int n) {
  if (n == kLanes) return storeHalf(p, a);
  uint16_t t[kLanes];
  storeHalf(t, a);
  for (int i = 0; i < n; ++i) p[i] = t[i];
}

template <int Bits>
void unpackPerToken(const PageShape& shape, const uint8_t* codes, const uint16_t* scales, int begin, int end, uint16_t* out) {
  const int n = shape.headDim, group = shape.group(), groups = shape.groups();
  const size_t rowBytes = shape.rowBytes(Bits);
  for (int slot = begin; slot < end; ++slot, out += n) {
    const uint8_t* row = codes + static_cast<size_t>(slot) * rowBytes;
    const uint16_t* own = scales + static_cast<int64_t>(slot) * groups * 2;
    for (int g = 0; g < groups; ++g) {
      const Vf scale = set1(halfToFloat(own[2 * g])), min = set1(halfToFloat(own[2 * g + 1]));
      for (int c = 0; c < group; c += kLanes) {
        const int at = g * group + c, m = group - c < kLanes ? group - c : kLanes;
        storeHalfUpTo(out + at, fma(codesToFloat<Bits>(row, at), scale, min), m);
      }
    }
  }
}

template <int Bits>
void unpackPerChannel(const PageShape& shape, const PageForm& form, const uint8_t* codes, const uint16_t* scales, int begin, int end, uint16_t* out) {
  const int n = shape.headDim;
  const size_t rowBytes = shape.rowBytes(Bits);
  for (int set = 0, first = 0; set < form.sets && first < end; first = form.ends[set++], scales += 2 * n) {
    const int from = first > begin ? first : begin, to = form.ends[set] < end ? form.ends[set] : end;
    if (from >= to) continue;
    for (int c = 0; c < n; c += kLanes) {
      const int m = n - c < kLanes ? n - c : kLanes;
      const Vf scale = m == kLanes ? loadHalf(scales + c) : loadHalfPart(scales + c, m), min = m == kLanes ? loadHalf(scales + n + c) : loadHalfPart(scales + n + c, m);
      const uint8_t* row = codes + static_cast<size_t>(from) * rowBytes;
      uint16_t* to16 = out + static_cast<int64_t>(from - begin) * n + c;
      for (int slot = from; slot < to; ++slot, row += rowBytes, to16 += n) storeHalfUpTo(to16, fma(codesToFloat<Bits>(row, c), scale, min), m);
    }
  }
}

template <int Bits>
void unpackBits(const PageShape& shape, const PageForm& form, const uint8_t* page, int begin, int end, uint16_t* out) {
  const uint16_t* scales = reinterpret_cast<const uint16_t*>(page + shape.codeBytes(Bits));
  if (form.sets > 0)
    unpackPerChannel<Bits>(shape, form, page, scales, begin, end, out);
  else
    unpackPerToken<Bits>(shape, page, scales, begin, end, out);
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
