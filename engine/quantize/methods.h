// SPDX-License-Identifier: GPL-3.0-or-later
// The rounding methods of this folder, for registry.cpp.
#pragma once
#include "engine/quantize/method.h"

namespace winnow {

void quantizeRtn(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out);

}  // namespace winnow
