// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/ops.h"

namespace winnow::cuda {

// quantizeRtn for codes that are no integers; the grid is one block of 128 for each group of each tile.
struct Grid;
struct QuantizeJob;
void quantizeCodes(Stream stream, const Grid& grid, const QuantizeJob& job, Storage storage, Code code);

}  // namespace winnow::cuda
