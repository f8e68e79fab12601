// SPDX-License-Identifier: GPL-3.0-or-later
// Block types of GGUF files that a packed format holds exactly: the same codes, scales and minimums in another order.
// q8_0 = 8 bit g32 sym (code + 128), q4_0 = 4 bit g32 sym over the full range (scales may be negative), q5_0 = 5 bit g32 sym,
// q4_1 and q5_1 = 4 and 5 bit g32 with a minimum, q4_k and q5_k = 4 and 5 bit g32 with a minimum in super-blocks of 256,
// q3_k and q6_k = 3 and 6 bit g16 sym in super-blocks of 256, mxfp4 = mxfp4.
#pragma once
#include <cstddef>
#include <optional>

#include "engine/core/dtype.h"
#include "engine/weights/matrix.h"

namespace winnow {

// The packed format that holds a type exactly; none for the others.
std::optional<WeightFormat> exactFormat(DType type);

// Repacks rows [firstRow, firstRow + count) of `out` straight from file bytes; firstRow is a multiple of 16, row i starts at
// rowBlocks + i * rowStride. False, and nothing done, unless out.format is exactFormat(type) and the block divides the columns.
// Thread-safe across tiles.
bool packBlocksExactly(DType type, const std::byte* rowBlocks, size_t rowStride, int count, int firstRow, Matrix& out);

}  // namespace winnow
