// SPDX-License-Identifier: GPL-3.0-or-later
// Whole f16 values as bit planes, of which a reader takes as many as it needs (AlignedKV: Tan et al., 2024, arXiv 2409.16546): in a sum, a term
// whose exponent lies far below that of the largest one can do without its last bits. What is missing is replaced by its middle, 1000...
//   high    [runs][along]       sign, exponent and 2 bits of the mantissa
//   middle  [runs][along / 2]   the next 4: a byte serves a value and, above it, the one half a run behind it
//   low     [runs][along / 2]   the last 4
//   largest [headDim]           of each channel the largest exponent, as f16 has it; that of subnormals and zeros is 1
// A run of keys is a channel, along the slots of a page; a run of values is a slot, along its channels: bits left out are whole stretches of
// memory. Exponents belong to a page, not as in the paper to all of a head's tokens, so they move with it and bound its own keys more
// closely. Included by kernel files, so nothing of std::.
#pragma once
#include <string.h>

#include "engine/cache/codes.h"
#include "engine/cache/page_form.h"

namespace winnow {

constexpr int kExponentBias = 15, kProbes = 32;  // kProbes: slots whose values stand for all of a chunk's

struct PlaneRuns {
  int runs, along;
  WINNOW_HOST_DEVICE PlaneRuns(int tokens, int headDim, bool byChannel) : runs(byChannel ? headDim : tokens), along(byChannel ? tokens : headDim) {}
  WINNOW_HOST_DEVICE int values() const { return runs * along; }
  WINNOW_HOST_DEVICE int nibbles(int run, bool low) const { return values() + (low ? values() / 2 : 0) + run * (along / 2); }  // where a run's begin
  WINNOW_HOST_DEVICE int largest() const { return 2 * values(); }
};

// What the first 16, 12 or 8 bits of a value stand for.
WINNOW_HOST_DEVICE inline uint16_t cutTo(int bits, uint16_t value) {
  const int missing = 16 - bits;
  return missing == 0 ? value : static_cast<uint16_t>((value >> missing << missing) | 1 << (missing - 1));
}

template <class Bytes>
WINNOW_HOST_DEVICE inline uint16_t planeValue(Bytes page, const PlaneRuns& at, int run, int i, int bits) {
  const int half = at.along / 2, nibble = i < half ? i : i - half, shift = i < half ? 0 : 4;
  const int high = page[run * at.along + i] << 8;
  if (bits == 8) return static_cast<uint16_t>(high | 0x80);
  const int middle = (page[at.nibbles(run, false) + nibble] >> shift & 15) << 4;
  return static_cast<uint16_t>(high | middle | (bits == 12 ? 8 : page[at.nibbles(run, true) + nibble] >> shift & 15));
}

WINNOW_HOST_DEVICE inline int exponentOfHalf(uint16_t value) {
  const int exponent = value >> 10 & 31;
  return exponent > 1 ? exponent : 1;
}
template <class To, class From>
WINNOW_HOST_DEVICE inline To bitsAs(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  memcpy(&out, &x, sizeof out);
  return out;
}
// Biased as those of f16, whose range it may leave.
WINNOW_HOST_DEVICE inline int exponentOf(float x) {
  const uint32_t word = bitsAs<uint32_t>(x);
  return static_cast<int>(word >> 23 & 255) - 127 + kExponentBias;
}

// Of what the first 8 bits stand for.
WINNOW_HOST_DEVICE inline float magnitudeOf(int high) {
  return bitsAs<float>(((static_cast<uint32_t>(high) << 8 | 0x80u) & 0x7fffu) << 13) * 0x1p112f;  // exact: the biases of f16 and f32 are so far apart
}

// Bits that a term needs which lies so many binades below the largest: of the paper (section 3), 4 and 8 with a step of 4, where an error
// is at most that of rounding the largest term to f16.
WINNOW_HOST_DEVICE inline int alignedBits(int below, int step) { return below < step ? 16 : below < 2 * step ? 12 : 8; }

}  // namespace winnow
