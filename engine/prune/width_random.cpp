// SPDX-License-Identifier: GPL-3.0-or-later
// Channels by chance: what a method has to be better than.
#include <cstdint>

#include "engine/prune/width_methods.h"

namespace winnow {

// Another order in every layer, the same at every share: what goes at one share is gone at a greater one.
std::vector<double> randomChannelScores(const WidthInput& input) {
  std::vector<double> out;
  uint64_t state = 0x9e3779b97f4a7c15ull * static_cast<uint64_t>(input.layer + 1);
  for (int j = 0; j < input.ffn; ++j) {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    out.push_back(static_cast<double>((z ^ (z >> 31)) >> 11));
  }
  return out;
}

}  // namespace winnow
