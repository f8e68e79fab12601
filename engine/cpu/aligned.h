// SPDX-License-Identifier: GPL-3.0-or-later
// How many bits of each channel of keys and of each value decoding reads where they lie in planes (engine/cache/planes.h; AlignedKV, section 3).
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/cache/page_form.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

// The largest exponents of a group's queries at each channel; where keys are yet to be turned, of what turning may make of them.
void queryExponents(const float* q /* [group, headDim] */, int group, int headDim, const KeyTurns& turns, int* out /* [headDim] */);

// Of the channels of a page of keys: a term's exponent is a query's and a key's together, and those far below the largest sum need fewer bits.
void keyBits(const PageShape& shape, const void* page, const int* queryExponents, int step, uint8_t* out /* [headDim] */);

// Slots [begin, end) of consecutive pages of values, counted from the first of them on; forms as pages.
struct ValueSlots {
  const uint16_t* const* pages;
  const PageForm* forms;
  int begin, end;
};
struct ValueScratch {
  float* output;     // [headDim]
  uint8_t* largest;  // [headDim]
};
// Of slots whose weights are p[g * stride + slot - begin] >= 0: the heaviest of each of kProbes strided classes, in 8 bits, tell the output's
// exponents, and a slot all of whose terms lie far below those of the output needs fewer bits. Of the heads of a group the most.
void valueBits(const PageShape& shape, const ValueSlots& slots, const float* p, int64_t stride, int group, int step, const ValueScratch& scratch,
               uint8_t* out /* [end - begin] */);

}  // namespace winnow::cpu
