// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products in double, for factorizations: the compiler's own vectors of the natural width.
#pragma once
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

typedef double Doubles __attribute__((vector_size(kLanes * 4)));
constexpr int kDoubles = kLanes / 2;

// c[64][64] -= a b over k terms: a[i][t] at a + i * aRow + t * aStep, b[t][j] at b + t * bStride + j.
void subtractProduct(const double* a, int64_t aRow, int64_t aStep, const double* b, int64_t bStride, int k, double* c, int64_t cStride) {
  constexpr int R = 4, C = 2;
  for (int j = 0; j < 64; j += C * kDoubles)
    for (int i = 0; i < 64; i += R) {
      Doubles sum[R][C];
      UNROLL for (int r = 0; r < R; ++r) UNROLL for (int v = 0; v < C; ++v) memcpy(&sum[r][v], c + (i + r) * cStride + j + v * kDoubles, sizeof(Doubles));
      for (int t = 0; t < k; ++t) {
        Doubles x[C];
        UNROLL for (int v = 0; v < C; ++v) memcpy(&x[v], b + t * bStride + j + v * kDoubles, sizeof(Doubles));
        UNROLL for (int r = 0; r < R; ++r) {
          const double factor = a[(i + r) * aRow + t * aStep];
          UNROLL for (int v = 0; v < C; ++v) sum[r][v] -= factor * x[v];
        }
      }
      UNROLL for (int r = 0; r < R; ++r) UNROLL for (int v = 0; v < C; ++v) memcpy(c + (i + r) * cStride + j + v * kDoubles, &sum[r][v], sizeof(Doubles));
    }
}

}  // namespace
}  // namespace winnow::cpu
