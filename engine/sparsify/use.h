// SPDX-License-Identifier: GPL-3.0-or-later
// What of its activations a session left out.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace winnow {

class Session;

// Entries that took part, of how many, summed over tokens.
struct SparseCount {
  int64_t kept = 0, of = 0;
  double skipped() const { return of > 0 ? 1 - static_cast<double>(kept) / static_cast<double>(of) : 0; }
};
struct SparseUse {
  static constexpr size_t kNeurons = 4;  // places: attention, output, ffn and down (LinearInput), then the neurons of the feed-forward
  std::vector<std::array<SparseCount, kNeurons + 1>> layers;
  int64_t steps = 0;  // tokens
  int64_t bytes = 0;  // of weights that were not read
  SparseCount& at(int layer, size_t place) { return layers[static_cast<size_t>(layer)][place]; }
};

// Of the tokens decoded since the last change of the setting or reset; with the session's thread.
const SparseUse& sparseUse(const Session& session);

}  // namespace winnow
