// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products as the ops of a plan ask for them.
#pragma once
#include "engine/cuda/ops.h"
#include "engine/plan/numerics.h"

namespace winnow::cuda {

// Scratch that products of up to `tokens` rows of up to `cols` columns need, in any mode.
size_t productScratchBytes(int tokens, int cols);
// Targets with one x, each in the mode that its weights have under `activations`: a file may mix types.
void products(Stream stream, std::span<const Target> targets, const float* x /* [tokens, cols] */, int tokens, int cols,
              Activations activations, void* scratch);

}  // namespace winnow::cuda
