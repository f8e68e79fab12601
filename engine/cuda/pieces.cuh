// SPDX-License-Identifier: GPL-3.0-or-later
// x as the products read it. For packed weights, in the order of the tensor core's fragments: of the 32 values of a chunk, lane t of a
// quad holds 4t .. 4t + 3 and 16 + 4t .. 16 + 4t + 3, which are just the dwords of the packing that it unpacks.
//   f16   [chunk][token][4 lanes][8 halves], and bf16 alike, for plain weights of that type with many tokens
//   f32   [chunk][token][3 pieces][4 lanes][8 bf16]: three bf16 hold the 24 bits of an f32 exactly, and every exponent
//   int8  [chunk][token][4 lanes][8 bytes], scales [chunk][token] = max|x| / 127, sums [chunk][token] of the integers
// Beside them totals [chunk][token], what the values were rounded to summed up, which minimums multiply.
// For plain weights otherwise x stays f32, [token][cols], rounded as the mode says.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

__host__ __device__ constexpr int pieceWords(ActivationMode mode) {  // of a chunk of one token
  return mode == ActivationMode::f32 ? 48 : mode == ActivationMode::int8 ? 8 : 16;
}

}  // namespace winnow::cuda
