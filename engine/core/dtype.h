// SPDX-License-Identifier: GPL-3.0-or-later
// Element types that model files hold, and 16-bit conversions.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace winnow {

// Types of master tensors (GGUF and safetensors). Block types follow the byte layouts of llama.cpp's ggml-common.h.
enum class DType : uint8_t { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, mxfp4, count };

struct DTypeTraits {
  std::string_view name;
  int blockValues;  // values per block along a row
  int blockBytes;
};
constexpr DTypeTraits dtypeTraits(DType type) {
  constexpr DTypeTraits table[] = {{"f32", 1, 4},     {"f16", 1, 2},      {"bf16", 1, 2},     {"q8_0", 32, 34},  {"q4_0", 32, 18},
                                   {"q4_1", 32, 20},  {"q5_0", 32, 22},   {"q5_1", 32, 24},   {"q2_k", 256, 84}, {"q3_k", 256, 110},
                                   {"q4_k", 256, 144}, {"q5_k", 256, 176}, {"q6_k", 256, 210}, {"mxfp4", 32, 17}};
  return table[static_cast<int>(type)];
}
constexpr bool isBlockType(DType type) { return dtypeTraits(type).blockValues > 1; }

inline float bf16ToFloat(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }
inline uint16_t floatToBf16(float f) {  // round to nearest even; NaN stays NaN
  const uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
inline float f16ToFloat(uint16_t h) { return static_cast<float>(std::bit_cast<_Float16>(h)); }
inline uint16_t floatToF16(float f) { return std::bit_cast<uint16_t>(static_cast<_Float16>(f)); }

}  // namespace winnow
