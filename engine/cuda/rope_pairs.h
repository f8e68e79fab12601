// SPDX-License-Identifier: GPL-3.0-or-later
// rotateAndStore (ops.h) for narrowed heads (prune.head_dim), each of which keeps some RoPE pairs of a whole one.
#pragma once
#include "engine/cuda/ops.h"

namespace winnow::cuda {

// `pairs` [kvHeads, headDim / 2]: which pair of the table, args.ropeDims / 2 wide, each pair (c, c + headDim / 2) of a head is. With `hadamard` queries and
// keys are rotated as well (kv.rotate).
void rotatePairsAndStore(Stream stream, const StoreArgs& args, const int32_t* pairs, bool hadamard);

}  // namespace winnow::cuda
