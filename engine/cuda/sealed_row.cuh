// SPDX-License-Identifier: GPL-3.0-or-later
// A slot of a page of the cache as it lies (engine/cache/page_form.h), for kernels that reseal, unpack or multiply it.
#pragma once
#include "engine/cache/codes.h"
#include "engine/cache/page_form.h"
#include "engine/cache/planes.h"
#include "engine/cuda/pages.cuh"

namespace winnow::cuda {

struct PageLayout {
  int tokens = 0, headDim = 0, group = 0, groups = 0;
  __device__ int rowBytes(int bits) const { return headDim * bits / 8; }
};
inline PageLayout layoutOf(int tokens, int headDim) {
  const PageShape shape{tokens, headDim};
  return {tokens, headDim, shape.group(), shape.groups()};
}

__device__ inline bool isSealed(const PageForm& form) { return form.bits < 16 || form.planes != Planes::none; }

struct SlotRow {  // a slot of a page as it lies
  Pointer<const uint16_t> rows;    // f16
  Pointer<const uint8_t> codes;    // sealed; of planes the whole page
  Pointer<const uint16_t> scales;  // per token [groups]{scale, min}; per channel scales[headDim], mins[headDim]
  Pointer<const uint32_t> kept;    // outliers
  int bits = 16, outliers = 0, slot = 0;  // slot: in planes
  bool perChannel = false;
  Planes planes = Planes::none;
};

// Where the outliers of a page begin, in halves.
__device__ inline int keptAt(const PageLayout& page, int bits, int sets) {
  return page.tokens * page.rowBytes(bits) / 2 + 2 * (sets > 0 ? sets * page.headDim : page.tokens * page.groups);
}

struct SealedAs {  // of a PageForm
  int bits, sets, outliers;
};

struct PagePointers {  // to one page
  Pointer<const uint16_t> halves;
  Pointer<const uint8_t> bytes;
  Pointer<const uint32_t> words;  // where it has outliers
};

// set: -1, or that which serves the slot of a page with scales per channel.
__device__ inline SlotRow sealedRow(const PageLayout& page, const PagePointers& at, const SealedAs& form, int set, int slot) {
  SlotRow row;
  row.bits = form.bits;
  row.outliers = form.outliers;
  row.perChannel = set >= 0;
  row.codes = at.bytes + slot * page.rowBytes(form.bits);
  row.scales = at.halves + page.tokens * page.rowBytes(form.bits) / 2 + 2 * (set >= 0 ? set * page.headDim : slot * page.groups);
  if (form.outliers > 0) row.kept = at.words + keptAt(page, form.bits, form.sets) / 2 + slot * form.outliers;
  return row;
}

__device__ inline SlotRow slotRow(const PageLayout& page, Pointer<const uint64_t> pages, const PageForm& form, int entry, int slot) {
  if (form.bits == 16) {
    SlotRow row;
    row.planes = form.planes;
    row.slot = slot;
    if (form.planes != Planes::none)
      row.codes = pointerAt<const uint8_t>(pages, entry);
    else
      row.rows = pointerAt<const uint16_t>(pages, entry) + slot * page.headDim;
    return row;
  }
  int set = form.sets > 0 ? 0 : -1;
  if (form.sets > 0)
    while (slot >= form.ends[set]) ++set;
  PagePointers at{pointerAt<const uint16_t>(pages, entry), pointerAt<const uint8_t>(pages, entry), nullptr};
  if (form.outliers > 0) at.words = pointerAt<const uint32_t>(pages, entry);
  return sealedRow(page, at, {form.bits, form.sets, form.outliers}, set, slot);
}

__device__ inline uint16_t planeAt(const PageLayout& page, Pointer<const uint8_t> bytes, bool byChannel, int slot, int c, int bits) {
  return planeValue(bytes, PlaneRuns(page.tokens, page.headDim, byChannel), byChannel ? c : slot, byChannel ? slot : c, bits);
}

// The f16 that component c stands for; the product is exact.
__device__ inline uint16_t valueAt(const PageLayout& page, const SlotRow& row, int c) {
  if (row.planes != Planes::none) return planeAt(page, row.codes, row.planes == Planes::byChannel, row.slot, c, 16);
  if (row.bits == 16) return row.rows[c];
  for (int i = 0; i < row.outliers; ++i)
    if (static_cast<int>(row.kept[i] >> 16) == c) return static_cast<uint16_t>(row.kept[i]);
  const int g = c / page.group, at = row.perChannel ? c : 2 * g;
  const int code = codeAt(row.bits, row.codes + g * (page.group * row.bits / 8), page.group, c % page.group);
  const float scale = halfToFloat(row.scales[at]), min = halfToFloat(row.scales[row.perChannel ? page.headDim + c : at + 1]);
  return floatToHalf(static_cast<float>(code) * scale + min);
}

// --- eight components at once, c a multiple of 8: of one group ------------------------------------------------------------

// Their codes, a byte each.
__device__ inline uint2 codesAt(const PageLayout& page, const SlotRow& row, int c) {
  const int g = c / page.group, in = c % page.group, low = row.bits == 3 ? 2 : row.bits;
  Pointer<const uint8_t> group = row.codes + g * (page.group * row.bits / 8);
  if (page.group < 32) {
    uint32_t words[2] = {};
#pragma unroll
    for (int i = 0; i < 8; ++i) words[i / 4] |= static_cast<uint32_t>(codeAt(row.bits, group, page.group, in + i)) << (8 * (i % 4));
    return make_uint2(words[0], words[1]);
  }
  const int span = 4 * low, shift = in / span * low;  // bytes of the plane
  const uint32_t mask = 0x01010101u * ((1u << low) - 1);
  if (row.bits != 3) {
    const uint2 words = load<uint2>(group + in % span);
    return make_uint2(words.x >> shift & mask, words.y >> shift & mask);
  }
  // Groups of 12 bytes: the top bits of the eight are one byte of its own plane, each to be moved to bit 2 of its code.
  const uint32_t top = group[span + in / 8], first = (top & 15u) * 0x00204081u & 0x01010101u, second = (top >> 4) * 0x00204081u & 0x01010101u;
  return make_uint2((load<uint32_t>(group) >> shift & mask) | first << 2, (load<uint32_t>(group + 4) >> shift & mask) | second << 2);
}

// valueAt of each, to the bit: rounded to f16 as an unpacked page holds them, so that one query sees what many do. The sum is in f32,
// since f16 would round once where this rounds twice.
__device__ inline void valuesAt(const PageLayout& page, const SlotRow& row, int c, float (&v)[8]) {
  const uint2 codes = codesAt(page, row, c);
  uint4 scales, mins;  // two to a word, of each channel
  if (row.perChannel) {
    scales = load<uint4>(row.scales + c);
    mins = load<uint4>(row.scales + page.headDim + c);
  } else {
    const uint32_t both = load<uint32_t>(row.scales + 2 * (c / page.group));
    const uint32_t scale = __byte_perm(both, both, 0x1010), min = __byte_perm(both, both, 0x3232);
    scales = make_uint4(scale, scale, scale, scale);
    mins = make_uint4(min, min, min, min);
  }
  const uint32_t s[4] = {scales.x, scales.y, scales.z, scales.w}, m[4] = {mins.x, mins.y, mins.z, mins.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    // The bytes c, 0, 0, 0x4b are the f32 2^23 + c.
    const float code = __uint_as_float(__byte_perm(i < 4 ? codes.x : codes.y, 0x4b000000u, 0x7440u | static_cast<uint32_t>(i % 4))) - 8388608.0f;
    const float scale = i % 2 ? highHalf(s[i / 2]) : lowHalf(s[i / 2]), min = i % 2 ? highHalf(m[i / 2]) : lowHalf(m[i / 2]);
    v[i] = halfToFloat(floatToHalf(fmaf(code, scale, min)));  // the product is exact
  }
  for (int j = 0; j < row.outliers; ++j) {
    const uint32_t outlier = row.kept[j];
    const int at = static_cast<int>(outlier >> 16) - c;
#pragma unroll
    for (int i = 0; i < 8; ++i)  // an index the compiler knows keeps them in registers
      if (i == at) v[i] = lowHalf(outlier);
  }
}

}  // namespace winnow::cuda
