// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/expand_kernels.h"
#if defined(__AVX512VBMI2__)
#include <immintrin.h>
#include <string.h>

namespace winnow::cpu {
namespace {

constexpr int kAhead = 4096;  // bytes: between two expansions nothing else asks for values

uint32_t wordOf(const uint8_t* mask) {
  uint32_t bits;
  memcpy(&bits, mask, 4);
  return bits;
}

// Loading and then expanding: an expanding load from memory takes many times as long on Zen 4.
void expandHalves(const void* values, const uint8_t* mask, int cols, void* out) {
  const auto* from = static_cast<const uint16_t*>(values);
  auto* to = static_cast<uint16_t*>(out);
  for (int c = 0; c < cols; c += kExpandStep, mask += 4) {
    const uint32_t bits = wordOf(mask);
    __builtin_prefetch(from + kAhead / 2);
    _mm512_storeu_si512(to + c, _mm512_maskz_expand_epi16(bits, _mm512_loadu_si512(from)));
    from += __builtin_popcount(bits);
  }
}

void expandFloats(const void* values, const uint8_t* mask, int cols, void* out) {
  const auto* from = static_cast<const uint32_t*>(values);
  auto* to = static_cast<uint32_t*>(out);
  for (int c = 0; c < cols; c += kExpandStep, mask += 4) {
    const uint32_t bits = wordOf(mask), low = bits & 0xffff;
    _mm512_storeu_si512(to + c, _mm512_maskz_expand_epi32(static_cast<__mmask16>(low), _mm512_loadu_si512(from)));
    from += __builtin_popcount(low);
    _mm512_storeu_si512(to + c + 16, _mm512_maskz_expand_epi32(static_cast<__mmask16>(bits >> 16), _mm512_loadu_si512(from)));
    from += __builtin_popcount(bits >> 16);
  }
}

constexpr ExpandKernels kTable = {expandHalves, expandFloats};

}  // namespace

const ExpandKernels* vbmi2ExpandKernels() { return &kTable; }

}  // namespace winnow::cpu
#else

namespace winnow::cpu {
const ExpandKernels* vbmi2ExpandKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
