// SPDX-License-Identifier: GPL-3.0-or-later
// SHA-256 (FIPS 180-4) of files, models and token ids; uses the processor's SHA instructions where it has them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

class Sha256 {
 public:
  void update(const void* data, size_t bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }
  std::array<uint8_t, 32> digest() const;  // of everything so far; more may follow
  std::string hex() const;

 private:
  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  uint64_t total_ = 0;  // bytes
};

std::string sha256Hex(std::string_view text);

namespace detail {
using Sha256Compress = void (*)(uint32_t* state, const uint8_t* blocks, size_t count);
void sha256Portable(uint32_t* state, const uint8_t* blocks, size_t count);
Sha256Compress sha256Accelerated();  // null where the processor has no such instructions
}  // namespace detail

}  // namespace winnow
