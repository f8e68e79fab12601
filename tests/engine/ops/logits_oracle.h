// SPDX-License-Identifier: GPL-3.0-or-later
// Scores and divergences of logits in double, and how far a backend may be from them.
//
// The bound. Each of vocab exponentials is within 2^-22 + vocab u / 4 at worst; the logarithm turns that into an absolute error. The
// entropy weighs the same by |x - max| <= 60 in these tests.
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/cpu/ops.h"
#include "tests/support/check.h"

namespace winnow::test {

inline constexpr double kScoreBound = 0x1p-22 + 1024 * 0x1p-24 / 4;

inline double sumOfExponentials(const float* row, int vocab) {
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(row[i]));
  return sum;
}

inline void expectScore(const TokenScore& found, const float* row, int vocab, int32_t target) {
  const double sum = sumOfExponentials(row, vocab);
  double entropy = 0;
  for (int i = 0; i < vocab; ++i) entropy -= std::exp(static_cast<double>(row[i])) / sum * (row[i] - std::log(sum));
  EXPECT_NEAR(found.nll, std::log(sum) - row[target], kScoreBound + 1e-12);
  EXPECT_NEAR(found.entropy, entropy, 100 * kScoreBound);
  EXPECT_EQ(found.best, static_cast<int32_t>(std::max_element(row, row + vocab) - row));
}

// Rows a and b differ by less than 0.3.
inline void expectDivergence(const Divergence& found, const float* a, const float* b, int vocab, int32_t target) {
  const double sa = sumOfExponentials(a, vocab), sb = sumOfExponentials(b, vocab);
  double kld = 0;
  for (int i = 0; i < vocab; ++i) kld += std::exp(static_cast<double>(a[i])) / sa * (a[i] - std::log(sa) - b[i] + std::log(sb));
  EXPECT_NEAR(found.kld, kld, 0.3 * 2 * kScoreBound * 4);
  EXPECT(found.kld > 0 || kld < 1e-6, kld);
  const double pa = std::exp(a[target]) / sa, pb = std::exp(b[target]) / sb;
  EXPECT_NEAR(found.baseP, pa, 1e-5 * pa + 1e-12);
  EXPECT_NEAR(found.otherP, pb, 1e-5 * pb + 1e-12);
  EXPECT_EQ(found.sameTop, std::max_element(a, a + vocab) - a == std::max_element(b, b + vocab) - b);
}

}  // namespace winnow::test
