// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <random>
#include <vector>

namespace winnow::test {

// Standard normal values, the same for a seed.
inline std::vector<float> normal(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> draw;
  std::vector<float> out(count);
  for (float& x : out) x = draw(rng);
  return out;
}

}  // namespace winnow::test
