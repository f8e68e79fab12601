// SPDX-License-Identifier: GPL-3.0-or-later
// Round to nearest of one row of weights; the grid rules are those of engine/quantize/rtn.cpp.
#pragma once
#include "engine/cpu/pointwise.h"

namespace winnow::cpu {
namespace {

constexpr float kHalfMax = 65504.0f, kHalfTiny = 0x1p-24f;  // largest and smallest positive f16

INLINE uint16_t halfBits(float x) { return floatToHalf(x > kHalfMax ? kHalfMax : x < -kHalfMax ? -kHalfMax : x); }
INLINE float half(float x) { return halfToFloat(halfBits(x)); }
INLINE float halfDown(float x) {  // largest f16 <= x, for |x| <= kHalfMax
  const uint16_t u = halfBits(x);
  const float h = halfToFloat(u);
  if (h <= x) return h;
  if (h == 0) return -kHalfTiny;
  return halfToFloat(static_cast<uint16_t>(h > 0 ? u - 1 : u + 1));
}
INLINE float halfUp(float x) { return -halfDown(-x); }
INLINE float atMost(float x, float limit) { return x < limit ? x : limit; }
INLINE float atLeast(float x, float limit) { return x > limit ? x : limit; }

struct Grid {
  float scale, min;
};

INLINE Grid symmetricGrid(const float* w, int count, int levels) {
  Vf m = set1(0);
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA { m = vmax(m, absolute(loadUpTo(w + i, n))); });
  const float largest = hmax(m), q = static_cast<float>(levels);
  float scale = half(largest / q);
  // Only among f16 subnormals can rounding move the scale so far that the largest weight falls off the grid.
  if (largest > (q + 0.5f) * scale) scale = atMost(halfUp(atMost(largest / q, kHalfMax)), kHalfMax);
  return {scale, 0};
}

INLINE void bounds(const float* w, int count, float* low, float* high) {
  Vf a = set1(w[0]), b = a;
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    a = vmin(a, load(w + i));
    b = vmax(b, load(w + i));
  }
  float l = -hmax(sub(set1(0), a)), h = hmax(b);
  for (; i < count; ++i) {
    l = w[i] < l ? w[i] : l;
    h = w[i] > h ? w[i] : h;
  }
  *low = l;
  *high = h;
}

INLINE Grid asymmetricGrid(const float* w, int count, int levels) {
  float low, high;
  bounds(w, count, &low, &high);
  const float range = high - low, q = static_cast<float>(levels);
  low = atMost(atLeast(low, -kHalfMax), kHalfMax);
  if (range == 0) {  // exact when the value is an f16; else one step on top of the minimum makes up the difference
    const float min = halfDown(low);
    return min == low ? Grid{1, min} : Grid{atLeast(half(low - min), kHalfTiny), min};
  }
  if (__builtin_fabsf(low) > 32 * range) {
    const float min = halfDown(low);
    return {atLeast(atMost(halfUp(atMost((high - min) / q, kHalfMax)), kHalfMax), kHalfTiny), min};
  }
  float scale = half(range / q);
  if (range > (q + 0.5f) * scale) scale = atMost(halfUp(atMost(range / q, kHalfMax)), kHalfMax);
  return {scale, half(low)};
}

void rtnRow(const float* w, int cols, int group, int bitCount, bool symmetric, uint8_t* q, uint16_t* scales, uint16_t* mins) {
  const int levels = symmetric ? (1 << (bitCount - 1)) - 1 : (1 << bitCount) - 1;
  const Vf top = set1(static_cast<float>(levels)), bottom = set1(symmetric ? -static_cast<float>(levels) : 0.0f);
  const Vf offset = set1(symmetric ? static_cast<float>(1 << (bitCount - 1)) : 0.0f);
  for (int begin = 0, g = 0; begin < cols; begin += group, ++g) {
    const int size = cols - begin < group ? cols - begin : group;
    const Grid grid = symmetric ? symmetricGrid(w + begin, size, levels) : asymmetricGrid(w + begin, size, levels);
    scales[g * 16] = halfBits(grid.scale);
    if (!symmetric) mins[g * 16] = halfBits(grid.min);
    const Vf scale = set1(grid.scale > 0 ? grid.scale : 1.0f), min = set1(grid.min);
    eachBlock(size, [&](int64_t i, int n) INLINE_LAMBDA {
      // Bounded before rounding, as the bounds are integers. vmax and vmin return the second operand for NaN.
      const Vf v = roundEven(vmin(vmax(div(sub(loadUpTo(w + begin + i, n), min), scale), bottom), top));
      if (n == kLanes) return storeCodes(q + begin + i, add(v, offset));
      uint8_t t[kLanes];
      storeCodes(t, add(v, offset));
      for (int j = 0; j < n; ++j) q[begin + i + j] = t[j];
    });
  }
}

}  // namespace
}  // namespace winnow::cpu
