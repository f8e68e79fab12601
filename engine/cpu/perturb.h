// SPDX-License-Identifier: GPL-3.0-or-later
// What eviction policies compute of whole rows of scores: engine/cache/query_rows.h says what for.
#pragma once
#include "engine/cpu/pointwise.h"

namespace winnow::cpu {
namespace {

void turnScaled(const float* in, int rows, int columns, float scale, float* out, int64_t stride) {
  for (int first = 0; first < rows; first += kLanes)
    for (int column = 0; column < columns; column += kLanes) {
      const int count = rows - first < kLanes ? rows - first : kLanes, width = columns - column < kLanes ? columns - column : kLanes;
      Vf block[kLanes];
      UNROLL for (int i = 0; i < kLanes; ++i) block[i] = i < count ? mul(load(in + (first + i) * 16 + column), set1(scale)) : set1(0);
      transpose(block);
      for (int i = 0; i < width; ++i) storeUpTo(out + (column + i) * stride + first, block[i], count);
    }
}

// A hash of position and key in whole dwords: rounds of xor-shift and multiplication (the finalizer of MurmurHash3), the second half of the key
// between them.
INLINE Vi hashed(Vi position, Vi first, Vi second) {
  Vi h = add(mul(position, setInt(static_cast<int32_t>(0x9e3779b9u))), first);
  h = mul(bxor(h, shr<16>(h)), setInt(static_cast<int32_t>(0x85ebca6bu)));
  h = add(bxor(h, shr<13>(h)), second);
  h = mul(bxor(h, shr<16>(h)), setInt(static_cast<int32_t>(0xc2b2ae35u)));
  return bxor(h, shr<16>(h));
}

void perturb(float* x, const int32_t* positions, int count, const uint32_t key[2], float factor) {
  const Vi first = setInt(static_cast<int32_t>(key[0])), second = setInt(static_cast<int32_t>(key[1]));
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA {
    int32_t some[kLanes] = {};
    if (n < kLanes)
      for (int j = 0; j < n; ++j) some[j] = positions[i + j];
    const Vi h = hashed(loadInt(n < kLanes ? some : positions + i), first, second);
    const Vf u = mul(add(toFloat(shr<9>(h)), set1(0.5f)), set1(0x1p-23f));  // all exact
    const Vf z = sub(set1(0), logarithm(sub(set1(0), logarithm(u))));
    storeUpTo(x + i, mul(add(loadUpTo(x + i, n), z), set1(factor)), n);
  });
}

void logarithms(const float* x, int64_t count, float* out) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA { storeUpTo(out + i, logarithm(n == kLanes ? load(x + i) : vmax(loadUpTo(x + i, n), set1(0x1p-126f))), n); });
}

}  // namespace
}  // namespace winnow::cpu
