// SPDX-License-Identifier: GPL-3.0-or-later
// Positions within the cache (StreamingLLM, Xiao et al., ICLR 2024, section 3.2): the distance between a query and a key is counted in held
// slots. Distances are all that rotary scores know, so keys stay as they were stored and only runs with gaps behind them are turned, when
// they are read: an eviction rounds nothing, and sealed pages need no other treatment. Decoding turns the query back instead of the keys.
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/cache/kv_format.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

// Tokens missing between a slot and the newest one.
inline int64_t missingBehind(const KvHead& head, int slot) {
  return int64_t{head.positions[head.tokens - 1]} - head.positions[slot] - (head.tokens - 1 - slot);
}
// Where the run of neighbours that `slot` is in ends, at most `end`.
inline int runEnd(const KvHead& head, int slot, int end) {
  int low = slot + 1;  // every slot before it is in the run
  while (low < end) {
    const int middle = low + (end - low) / 2;
    if (head.positions[middle] - head.positions[slot] == middle - slot)
      low = middle + 1;
    else
      end = middle;
  }
  return low;
}

// Rotates vectors of a head by so many positions; `scratch` has room for 2 * turns.half floats.
class Turn {
 public:
  Turn(const KernelTable& kernels, const KeyTurns& turns, int headDim, int64_t positions, float* scratch)
      : kernels_(kernels), turns_(turns), headDim_(headDim), cosines_(scratch), sines_(scratch + turns.half) {
    for (int c = 0; c < turns.half; ++c) {
      const double angle = static_cast<double>(positions) * static_cast<double>(turns.frequencies[c]);
      cosines_[c] = static_cast<float>(std::cos(angle));
      sines_[c] = static_cast<float>(std::sin(angle));
    }
  }
  void operator()(float* x /* [headDim] */) const {
    if (turns_.hadamard) rotateHadamard(x, headDim_);
    kernels_.rotate(x, cosines_, sines_, turns_.half);
    if (turns_.hadamard) rotateHadamard(x, headDim_);
  }

 private:
  const KernelTable& kernels_;
  const KeyTurns& turns_;
  int headDim_;
  float *cosines_, *sines_;
};

}  // namespace winnow::cpu
