// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products on row-major f32, f16 and bf16 matrices: R rows by T tokens of running sums, lanes along the columns, one
// horizontal sum at the end. Nothing is repacked; the order of each sum does not depend on R or T.
#pragma once
#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

enum Element { kF32, kF16, kBf16 };
template <int E>
INLINE Vf loadElements(const void* row, int64_t k) {
  if constexpr (E == kF32) return load(static_cast<const float*>(row) + k);
  if constexpr (E == kF16) return loadHalf(static_cast<const uint16_t*>(row) + k);
  if constexpr (E == kBf16) return loadBf16(static_cast<const uint16_t*>(row) + k);
}
template <int E>
INLINE Vf loadElementsPart(const void* row, int64_t k, int n) {
  if constexpr (E == kF32) return loadPart(static_cast<const float*>(row) + k, n);
  if constexpr (E == kF16) return loadHalfPart(static_cast<const uint16_t*>(row) + k, n);
  if constexpr (E == kBf16) return loadBf16Part(static_cast<const uint16_t*>(row) + k, n);
}

INLINE void storeSum(const MatmulJob& job, int row, int token, float sum) {
  float* y = job.y + token * job.yStride + row;
  if (job.bias) sum += job.bias[row];
  *y = job.accumulate ? sum + *y : sum;
}
template <int R, int T>
INLINE void storeSums(const MatmulJob& job, int row, int firstToken, const Vf (&a)[R][T]) {
  for (int t = 0; t < T; ++t) {
    if constexpr (R == 4) {
      float sums[4];
      hsum4(a[0][t], a[1][t], a[2][t], a[3][t], sums);
      for (int r = 0; r < 4; ++r) storeSum(job, row + r, firstToken + t, sums[r]);
    } else {
      for (int r = 0; r < R; ++r) storeSum(job, row + r, firstToken + t, hsum(a[r][t]));
    }
  }
}

template <int E>
struct PlainFloat {
  template <int R, int T>
  static void block(const MatmulJob& job, int row, int firstToken) {
    constexpr int bytes = E == kF32 ? 4 : 2;
    const char* w = static_cast<const char*>(job.w) + static_cast<int64_t>(row) * job.cols * bytes;
    const int64_t rowBytes = static_cast<int64_t>(job.cols) * bytes;
    const float* x = static_cast<const float*>(job.x) + firstToken * job.xStride;
    Vf a[R][T];
    UNROLL for (int r = 0; r < R; ++r) UNROLL for (int t = 0; t < T; ++t) a[r][t] = set1(0);
    int k = 0;
    for (; k + kLanes <= job.cols; k += kLanes) {
      Vf wv[R];
      UNROLL for (int r = 0; r < R; ++r) wv[r] = loadElements<E>(w + r * rowBytes, k);
      UNROLL for (int t = 0; t < T; ++t) {
        const Vf xv = load(x + t * job.xStride + k);
        UNROLL for (int r = 0; r < R; ++r) a[r][t] = fma(wv[r], xv, a[r][t]);
      }
    }
    if (const int n = job.cols - k; n > 0) {
      UNROLL for (int t = 0; t < T; ++t) {
        const Vf xv = loadPart(x + t * job.xStride + k, n);
        UNROLL for (int r = 0; r < R; ++r) a[r][t] = fma(loadElementsPart<E>(w + r * rowBytes, k, n), xv, a[r][t]);
      }
    }
    storeSums<R, T>(job, row, firstToken, a);
  }
};

// Tokens of a block: 4 x 6 sums, 4 weights and an x fill 29 of 32 registers; 4 x 2 fill 13 of 16.
constexpr int kPlainTokens = kLanes == 16 ? 6 : 2;

template <class Kernel, int R>
void plainTokens(const MatmulJob& job, int first, int last) {
  int t = 0;
  const auto rows = [&](auto block, int n, int step) {
    for (; t + n <= job.tokens; t += n)
      for (int row = first; row < last; row += step) block(job, row, t);
  };
  if constexpr (kPlainTokens >= 6) rows(Kernel::template block<R, 6>, 6, R);
  if constexpr (kPlainTokens >= 4) rows(Kernel::template block<R, 4>, 4, R);
  rows(Kernel::template block<R, 2>, 2, R);
  // One stream at a time: on Zen 4 one row reads at 31 GB/s, four side by side at 23, and prefetching by hand costs 4 more.
  rows(Kernel::template block<1, 1>, 1, 1);
}

// Rows in blocks that stay in the L2 cache while the tokens pass.
template <class Kernel, int ElementBytes>
void plainProduct(const MatmulJob& job, int begin, int end) {
  constexpr int64_t kBlockBytes = 256 << 10;
  const int64_t fit = kBlockBytes / (static_cast<int64_t>(job.cols) * ElementBytes) / 4 * 4;
  const int blockRows = fit < 4 ? 4 : fit > 256 ? 256 : static_cast<int>(fit);
  for (int first = begin; first < end; first += blockRows) {
    const int last = first + blockRows < end ? first + blockRows : end, whole = first + (last - first) / 4 * 4;
    plainTokens<Kernel, 4>(job, first, whole);
    plainTokens<Kernel, 1>(job, whole, last);
  }
}

}  // namespace
}  // namespace winnow::cpu
