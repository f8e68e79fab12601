// SPDX-License-Identifier: GPL-3.0-or-later
// Quantiles of sorted values by linear interpolation at fraction * (n - 1), as llama.cpp prints them.
#pragma once
#include <cmath>
#include <cstddef>
#include <vector>

namespace winnow {

template <class Number>
double sortedQuantile(const std::vector<Number>& sorted, double fraction) {
  if (sorted.empty()) return 0;
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(std::floor(at));
  const double share = at - std::floor(at);
  const double upper = low + 1 < sorted.size() ? static_cast<double>(sorted[low + 1]) : static_cast<double>(sorted[low]);
  return static_cast<double>(sorted[low]) * (1 - share) + upper * share;
}

}  // namespace winnow
