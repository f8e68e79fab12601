// SPDX-License-Identifier: GPL-3.0-or-later
// RoPE of narrowed heads (prune.head_dim), each of which keeps some pairs of a whole one with their frequencies.
#pragma once
#include <cstdint>

#include "engine/cpu/ops.h"

namespace winnow::cpu {

struct KeptPairs {
  const float* frequencies = nullptr;  // [dims / 2] of a whole head
  int dims = 0;
  const int32_t* pairs = nullptr;  // [heads / group, headDim / 2] which of them the pairs (c, c + headDim / 2) are
  int group = 1;                   // heads that keep the same ones
};
void ropePairs(Context& context, float* x /* [tokens, heads, headDim] */, int64_t stride, const KeptPairs& kept, const int32_t* positions /* [tokens] */, int tokens, int heads, int headDim);

}  // namespace winnow::cpu
