// SPDX-License-Identifier: GPL-3.0-or-later
// What the arithmetic units can do: 12 independent chains of multiply-adds that stay in registers.
#pragma once
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

constexpr int kChains = kLanes == 16 ? 12 : 10;

// Starts with step(acc) on every chain, `rounds` times; the empty asm keeps the loop from being folded away.
template <class V, class Step>
INLINE void runChains(V (&a)[kChains], int rounds, Step step) {
  for (int i = 0; i < rounds; ++i) {
    UNROLL for (int j = 0; j < kChains; ++j) {
      a[j] = step(a[j]);
#if defined(__AVX2__)
      __asm__ volatile("" : "+v"(a[j].v));
#endif
    }
  }
}

[[maybe_unused]] int64_t peakFloat(int rounds, float* keep) {
  Vf a[kChains];
  UNROLL for (int j = 0; j < kChains; ++j) a[j] = set1(*keep + static_cast<float>(j));
  const Vf x = set1(*keep * 0.5f + 0.5f), y = set1(*keep);
  runChains(a, rounds, [&](Vf v) INLINE_LAMBDA { return fma(v, x, y); });
  UNROLL for (int j = 1; j < kChains; ++j) a[0] = add(a[0], a[j]);
  *keep = hsum(a[0]);
  return int64_t{rounds} * kChains * kLanes;
}

[[maybe_unused]] int64_t peakInt8(int rounds, float* keep) {
  Vi a[kChains];
  UNROLL for (int j = 0; j < kChains; ++j) a[j] = setInt(static_cast<int32_t>(*keep) + j);
  const Vi codes = setInt(static_cast<int32_t>(*keep));
  runChains(a, rounds, [&](Vi v) INLINE_LAMBDA { return dot4(v, codes, 0x01010101); });
  UNROLL for (int j = 1; j < kChains; ++j) a[0] = bor(a[0], a[j]);
  *keep = hsum(toFloat(a[0]));
  return int64_t{rounds} * kChains * kLanes * 4;
}

}  // namespace
}  // namespace winnow::cpu
