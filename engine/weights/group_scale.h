// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/weights/matrix.h"

namespace winnow {

// Of one row and group of a packed matrix: value = scale * (what the code stands for, less its offset) + min.
struct GroupScale {
  float scale, min;
};
GroupScale groupScaleOf(const Matrix& matrix, int row, int group);

}  // namespace winnow
