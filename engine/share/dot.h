// SPDX-License-Identifier: GPL-3.0-or-later
// The product of two rows of attention.
#pragma once
#include <cstdint>

namespace winnow {

// Eight sums: one alone would wait for each addition.
inline double dot(const float* a, const float* b, int64_t n) {
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int lane = 0; lane < 8; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace winnow
