// SPDX-License-Identifier: GPL-3.0-or-later
// Rows of weights on their way from what the file holds to what is stored: widened, checked, pruned by a score, rounded.
#pragma once
#include "engine/cpu/pointwise.h"

namespace winnow::cpu {
namespace {

// Zero times a value that is not finite is NaN, and stays so in a sum. Four sums: one would wait for itself.
bool allFinite(const float* x, int64_t count) {
  Vf sums[4] = {set1(0), set1(0), set1(0), set1(0)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes)
    UNROLL for (int j = 0; j < 4; ++j) sums[j] = fma(load(x + i + j * kLanes), set1(0), sums[j]);
  eachBlock(count - i, [&](int64_t k, int n) INLINE_LAMBDA { sums[0] = fma(loadUpTo(x + i + k, n), set1(0), sums[0]); });
  return hsum(add(add(sums[0], sums[1]), add(sums[2], sums[3]))) == 0;
}

void widenBf16(const uint16_t* x, int64_t count, float* out) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA { storeUpTo(out + i, n == kLanes ? loadBf16(x + i) : loadBf16Part(x + i, n), n); });
}

void toBf16(const float* x, int64_t count, uint16_t* out) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA {
    if (n == kLanes) return storeBf16(out + i, roundToBf16(load(x + i)));
    uint16_t t[kLanes];
    storeBf16(t, roundToBf16(loadPart(x + i, n)));
    for (int j = 0; j < n; ++j) out[i + j] = t[j];
  });
}

int pruneBelow(float* row, const float* factors, int cols, float from, float last, uint32_t* within) {
  int found = 0;
  eachBlock(cols, [&](int64_t i, int n) INLINE_LAMBDA {
    const Vf w = loadUpTo(row + i, n), score = mul(absolute(w), loadUpTo(factors + i, n));
    storeUpTo(row + i, zeroWhereLess(score, set1(from), w), n);
    found += positionsWithin(score, set1(from), set1(last), static_cast<uint32_t>(i), within + found);
  });
  while (found > 0 && within[found - 1] >= static_cast<uint32_t>(cols)) --found;  // lanes beyond the row
  return found;
}

}  // namespace
}  // namespace winnow::cpu
