// SPDX-License-Identifier: GPL-3.0-or-later
// From stored bytes to f32, exactly what the stored type says: every operation is the one the formats define, in f32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/core/dtype.h"

namespace winnow {

// `count` values, a multiple of the type's block, from contiguous storage. out [count]
void decodeValues(DType type, const std::byte* from, int64_t count, float* out);

// The first value (or block scale) that is NaN or infinite, as the index of the value or the first of its block; -1 when
// all are finite.
int64_t firstNotFinite(DType type, const std::byte* from, int64_t count);

}  // namespace winnow
