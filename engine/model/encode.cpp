// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/encode.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"

namespace winnow {
namespace {

void putHalf(std::byte* to, float value) {
  const uint16_t bits = floatToF16(value);
  std::memcpy(to, &bits, 2);
}

// d = max |x| / 127, the scale in f32 for rounding and in f16 for keeping.
void q8_0(const float* x, std::byte* out) {
  float most = 0.0f;
  for (int j = 0; j < 32; ++j) most = std::max(most, std::fabs(x[j]));
  const float d = most / 127.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
  putHalf(out, d);
  for (int j = 0; j < 32; ++j) {
    const float v = x[j] * inverse;
    out[2 + j] = static_cast<std::byte>(static_cast<int8_t>(v < 0 ? v - 0.5f : v + 0.5f));
  }
}

// d = x / -8 for the x that is largest in magnitude, sign kept.
void q4_0(const float* x, std::byte* out) {
  float most = 0.0f, extreme = 0.0f;
  for (int j = 0; j < 32; ++j)
    if (std::fabs(x[j]) > most) {
      most = std::fabs(x[j]);
      extreme = x[j];
    }
  const float d = extreme / -8.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
  putHalf(out, d);
  const auto code = [&](float v) { return static_cast<uint8_t>(std::min(15, static_cast<int>(v * inverse + 8.5f))); };
  for (int j = 0; j < 16; ++j) out[2 + j] = static_cast<std::byte>(code(x[j]) | code(x[j + 16]) << 4);
}

}  // namespace

void encodeValues(DType type, const float* from, int64_t count, std::byte* out) {
  CHECK(count % dtypeTraits(type).blockValues == 0, count);
  switch (type) {
    case DType::f32: std::memcpy(out, from, static_cast<size_t>(count) * 4); return;
    case DType::f16:
      for (int64_t i = 0; i < count; ++i) putHalf(out + 2 * i, from[i]);
      return;
    case DType::bf16:
      for (int64_t i = 0; i < count; ++i) {
        const uint16_t bits = floatToBf16(from[i]);
        std::memcpy(out + 2 * i, &bits, 2);
      }
      return;
    case DType::q8_0:
      for (int64_t i = 0; i < count; i += 32) q8_0(from + i, out + i / 32 * 34);
      return;
    case DType::q4_0:
      for (int64_t i = 0; i < count; i += 32) q4_0(from + i, out + i / 32 * 18);
      return;
    default: CHECK(false, static_cast<int>(type));
  }
}

}  // namespace winnow
