// SPDX-License-Identifier: GPL-3.0-or-later
// Row kernels: preparation of activations, norms, rotations, activations, logits, round-to-nearest.
#pragma once
#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

// Applies body(i, count) to blocks of kLanes and the tail.
template <class Body>
INLINE void eachBlock(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, static_cast<int>(n - i));
}
INLINE Vf loadUpTo(const float* p, int n) { return n == kLanes ? load(p) : loadPart(p, n); }
INLINE void storeUpTo(float* p, Vf a, int n) { n == kLanes ? store(p, a) : storePart(p, a, n); }

void roundRow(int mode, const float* x, int cols, int64_t stride, float* out) {
  for (int c = 0; c < cols; c += 32, out += stride)
    for (int i = 0; i < 32; i += kLanes) {
      const int left = cols - c - i;
      Vf v = left >= kLanes ? load(x + c + i) : loadPart(x + c + i, left < 0 ? 0 : left);
      if (mode == 1) v = roundToHalf(v);
      if (mode == 2) v = roundToBf16(v);
      store(out + i, v);
    }
}

void chunkSums(const float* x, int cols, int64_t stride, float* sums) {
  for (int c = 0; c < cols; c += 32, sums += stride) {
    Vf s = set1(0);
    eachBlock(cols - c < 32 ? cols - c : 32, [&](int64_t i, int n) INLINE_LAMBDA { s = add(s, loadUpTo(x + c + i, n)); });
    *sums = hsum(s);
  }
}

// Scale = max|x| / 127 per 32 values, integers x / scale to nearest even; 0 where the scale is 0 or not finite.
void quantizeRow(const float* x, int cols, int64_t stride, int8_t* out, float* scales, int32_t* sums) {
  for (int c = 0; c < cols; c += 32, out += stride) {
    const int count = cols - c < 32 ? cols - c : 32;
    Vf largest = set1(0);
    eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA { largest = vmax(largest, absolute(loadUpTo(x + c + i, n))); });
    const float scale = hmax(largest) / 127.0f;
    const bool usable = scale > 0 && scale < 3.0e38f;
    scales[c / 32] = usable ? scale : 0;
    int32_t sum = 0;
    for (int i = 0; i < 32; i += kLanes) {
      const int n = count - i < 0 ? 0 : count - i < kLanes ? count - i : kLanes;
      // A subnormal scale is coarse: the quotient can pass 127.
      const Vf q = n > 0 && usable ? vmax(vmin(roundEven(div(loadPart(x + c + i, n), set1(scale))), set1(127)), set1(-127)) : set1(0);
      storeInt8(out + i, q);
      sum += static_cast<int32_t>(hsum(q));
    }
    sums[c / 32] = sum;
  }
}

INLINE float inverseRoot(float meanSquare, float eps) {
  const float v = meanSquare + eps;
  return 1.0f / __builtin_sqrtf(v);
}

INLINE float sumOfSquares(const float* x, int n, Vf center) {
  Vf s[4] = {set1(0), set1(0), set1(0), set1(0)};
  int i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    UNROLL for (int j = 0; j < 4; ++j) {
      const Vf v = sub(load(x + i + j * kLanes), center);
      s[j] = fma(v, v, s[j]);
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    const Vf v = sub(load(x + i), center);
    s[0] = fma(v, v, s[0]);
  }
  float rest = 0;
  const float middle = hsum(center) / kLanes;
  for (; i < n; ++i) rest += (x[i] - middle) * (x[i] - middle);
  return hsum(add(add(s[0], s[1]), add(s[2], s[3]))) + rest;
}

void rmsNorm(const float* x, const float* weight, float eps, int n, float* out) {
  const Vf scale = set1(inverseRoot(sumOfSquares(x, n, set1(0)) / static_cast<float>(n), eps));
  eachBlock(n,
            [&](int64_t i, int m) INLINE_LAMBDA { storeUpTo(out + i, mul(mul(loadUpTo(x + i, m), scale), loadUpTo(weight + i, m)), m); });
}

void layerNorm(const float* x, const float* weight, const float* bias, float eps, int n, float* out) {
  Vf s = set1(0);
  eachBlock(n, [&](int64_t i, int m) INLINE_LAMBDA { s = add(s, loadUpTo(x + i, m)); });
  const Vf mean = set1(hsum(s) / static_cast<float>(n));
  const Vf scale = set1(inverseRoot(sumOfSquares(x, n, mean) / static_cast<float>(n), eps));
  eachBlock(n, [&](int64_t i, int m) INLINE_LAMBDA {
    const Vf v = mul(sub(loadUpTo(x + i, m), mean), scale);
    storeUpTo(out + i, fma(v, loadUpTo(weight + i, m), bias ? loadUpTo(bias + i, m) : set1(0)), m);
  });
}

void rotate(float* head, const float* cosines, const float* sines, int half) {
  eachBlock(half, [&](int64_t i, int n) INLINE_LAMBDA {
    const Vf a = loadUpTo(head + i, n), b = loadUpTo(head + half + i, n), c = loadUpTo(cosines + i, n), s = loadUpTo(sines + i, n);
    storeUpTo(head + i, sub(mul(a, c), mul(b, s)), n);
    storeUpTo(head + half + i, add(mul(a, s), mul(b, c)), n);
  });
}

INLINE Vf logistic(Vf x) { return div(set1(1), add(set1(1), exponential(sub(set1(0), x)))); }

INLINE Vf squashed(Squash kind, Vf x) {
  if (kind == Squash::silu) return mul(x, logistic(x));
  if (kind == Squash::geluTanh) {  // (1 + tanh u) / 2 = logistic(2u)
    const Vf u = mul(x, fma(mul(x, x), set1(2 * 0.7978845608f * 0.044715f), set1(2 * 0.7978845608f)));
    return mul(x, logistic(u));
  }
  // Abramowitz and Stegun 7.1.26 for z = |x| / sqrt 2: erfc z = poly(t) e^(-z^2), t = 1 / (1 + p z), |error| <= 1.5e-7.
  const Vf z = mul(absolute(x), set1(0.7071067812f)), t = div(set1(1), fma(z, set1(0.3275911f), set1(1)));
  Vf p = fma(t, set1(1.061405429f), set1(-1.453152027f));
  p = fma(p, t, set1(1.421413741f));
  p = fma(p, t, set1(-0.284496736f));
  p = mul(fma(p, t, set1(0.254829592f)), t);
  const Vf tail = mul(mul(set1(0.5f), p), exponential(sub(set1(0), mul(z, z))));  // upper tail of the normal distribution
  // x times the distribution function: for x < 0 that is the tail itself, with nothing cancelled.
  return sub(vmax(x, set1(0)), mul(absolute(x), tail));
}

template <Squash kind>
INLINE void squashRow(float* gate, const float* up, int64_t count) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA {
    const Vf y = squashed(kind, loadUpTo(gate + i, n));
    storeUpTo(gate + i, up ? mul(y, loadUpTo(up + i, n)) : y, n);
  });
}
void squash(Squash kind, float* gate, const float* up, int64_t count) {
  if (kind == Squash::silu) return squashRow<Squash::silu>(gate, up, count);
  if (kind == Squash::geluTanh) return squashRow<Squash::geluTanh>(gate, up, count);
  squashRow<Squash::geluErf>(gate, up, count);
}

void toHalf(const float* x, int64_t count, uint16_t* out) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA {
    if (n == kLanes) return storeHalf(out + i, load(x + i));
    uint16_t t[kLanes];
    storeHalf(t, loadPart(x + i, n));
    for (int j = 0; j < n; ++j) out[i + j] = t[j];
  });
}

void exponentials(const float* x, int64_t count, float* out) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA { storeUpTo(out + i, exponential(loadUpTo(x + i, n)), n); });
}

constexpr int kLogitsBlock = 1024;  // summed in f32 lanes, then in double

void logits(const float* x, int vocab, LogitsRow* out) {
  Vf m = set1(-__builtin_inff());
  int i = 0;
  for (; i + kLanes <= vocab; i += kLanes) m = vmax(m, load(x + i));
  float largest = hmax(m);
  for (; i < vocab; ++i) largest = x[i] > largest ? x[i] : largest;
  LogitsRow row;
  row.largest = largest;
  while (row.best + 1 < vocab && x[row.best] != largest) ++row.best;  // the first of equals
  const Vf top = set1(largest);
  for (int begin = 0; begin < vocab; begin += kLogitsBlock) {
    const int count = vocab - begin < kLogitsBlock ? vocab - begin : kLogitsBlock;
    Vf sum = set1(0), weighted = set1(0);
    int j = begin;
    for (; j + kLanes <= begin + count; j += kLanes) {
      const Vf d = vmax(sub(load(x + j), top), set1(-1e4f)), e = exponential(d);  // 0 * -inf would be NaN
      sum = add(sum, e);
      weighted = fma(e, d, weighted);
    }
    row.sum += static_cast<double>(hsum(sum));
    row.weighted += static_cast<double>(hsum(weighted));
    for (; j < begin + count; ++j) {
      float d[kLanes] = {x[j] - largest > -1e4f ? x[j] - largest : -1e4f}, e[kLanes];
      store(e, exponential(load(d)));
      row.sum += static_cast<double>(e[0]);
      row.weighted += static_cast<double>(e[0] * d[0]);
    }
  }
  *out = row;
}

double divergence(const float* p, float pLargest, const float* q, float qLargest, int vocab) {
  const Vf top = set1(pLargest), shift = set1(pLargest - qLargest);
  double total = 0;
  for (int begin = 0; begin < vocab; begin += kLogitsBlock) {
    const int count = vocab - begin < kLogitsBlock ? vocab - begin : kLogitsBlock;
    Vf sum = set1(0);
    eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA {
      const Vf a = loadUpTo(p + begin + i, n), b = loadUpTo(q + begin + i, n);
      // Lanes beyond the row hold p = q = 0 and would add -shift * exp(-top).
      Vf term = mul(exponential(sub(a, top)), sub(sub(a, b), shift));
      if (n < kLanes) {
        float t[kLanes] = {};
        storePart(t, term, n);
        term = load(t);
      }
      sum = add(sum, term);
    });
    total += static_cast<double>(hsum(sum));
  }
  return total;
}

uint64_t readStream(const void* data, int64_t bytes) {  // hardware prefetch alone: by hand it reads 10 % less on Zen 4
  const auto* p = static_cast<const uint8_t*>(data);
  I16 s[4] = {};
  for (int64_t i = 0; i < bytes; i += 256) {
    UNROLL for (int j = 0; j < 4; ++j) s[j] = bor(s[j], loadBytes(p + i + 64 * j));
  }
  uint64_t words[8];
  const I16 all = bor(bor(s[0], s[1]), bor(s[2], s[3]));
  memcpy(words, &all, sizeof words);
  uint64_t r = 0;
  for (uint64_t w : words) r |= w;
  return r;
}

}  // namespace
}  // namespace winnow::cpu
