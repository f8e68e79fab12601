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

// q4_k and q5_k: the six-bit multiples of d and dmin of sub-block `sub`, from the block's twelve bytes of scales. The first four lie in
// the low bits of bytes 0-3 and 4-7, the others in the nibbles of bytes 8-11 with their upper two bits on top of the first eight bytes.
struct SubBlockScale {
  int scale, min;
};
inline SubBlockScale subBlockScale(const std::byte* scales, int sub) {
  const auto at = [scales](int i) { return static_cast<int>(scales[i]); };
  if (sub < 4) return {at(sub) & 63, at(sub + 4) & 63};
  return {(at(sub + 4) & 15) | at(sub - 4) >> 6 << 4, at(sub + 4) >> 4 | at(sub) >> 6 << 4};
}

}  // namespace winnow
