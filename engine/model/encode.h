// SPDX-License-Identifier: GPL-3.0-or-later
// From f32 to the stored types that the synthesizer writes, rounded as llama.cpp rounds them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/core/dtype.h"

namespace winnow {

// `count` values, a multiple of the type's block; f32, f16, bf16, q8_0 and q4_0.
void encodeValues(DType type, const float* from, int64_t count, std::byte* out);

}  // namespace winnow
