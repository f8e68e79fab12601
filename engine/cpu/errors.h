// SPDX-License-Identifier: GPL-3.0-or-later
// The products of error factors, beside those of the matrices that lack them.
#pragma once
#include <span>

#include "engine/cpu/ops.h"
#include "engine/weights/error_factors.h"

namespace winnow::cpu {

struct ErrorTarget {
  const ErrorFactors* error = nullptr;  // null: nothing is added
  float* y = nullptr;                   // [tokens, yStride]
  int64_t yStride = 0;                  // floats
};
// y[t] += left (right x[t]) for factors that see one input, at most 8: one fork-join for all right ones, one for each left. x is rounded to f16,
// whatever the matrices see of it, or not at all in f32.
void addErrors(Context& context, std::span<const ErrorTarget> targets, const float* x /* [tokens, xStride] */, int64_t xStride, int tokens, bool f32);

}  // namespace winnow::cpu
