// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/expand_kernels.h"
#if defined(__AVX2__)
#include <immintrin.h>

namespace winnow::cpu {
namespace {

// Of each mask byte: which value each of its eight weights is; 128 where there is none.
struct Places {
  alignas(64) uint8_t halves[256][16] = {};  // as bytes to shuffle
  alignas(64) uint8_t floats[256][8] = {};
};
constexpr Places makePlaces() {
  Places p;
  for (int mask = 0; mask < 256; ++mask)
    for (int i = 0, next = 0; i < 8; ++i) {
      const bool there = mask >> i & 1;
      p.halves[mask][2 * i] = static_cast<uint8_t>(there ? 2 * next : 128);
      p.halves[mask][2 * i + 1] = static_cast<uint8_t>(there ? 2 * next + 1 : 128);
      p.floats[mask][i] = static_cast<uint8_t>(there ? next++ : 128);
    }
  return p;
}
constexpr Places kPlaces = makePlaces();

template <class Element, class Eight>
void expand(const void* values, const uint8_t* mask, int cols, void* out, Eight eight) {
  const auto* from = static_cast<const Element*>(values);
  auto* to = static_cast<Element*>(out);
  for (int c = 0; c < cols; c += kExpandStep)
    for (int i = 0; i < kExpandStep / 8; ++i, ++mask) {
      eight(from, *mask, to + c + 8 * i);
      from += __builtin_popcount(*mask);
    }
}

void expandHalves(const void* values, const uint8_t* mask, int cols, void* out) {
  expand<uint16_t>(values, mask, cols, out, [](const uint16_t* from, uint8_t bits, uint16_t* to) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(v, _mm_load_si128(reinterpret_cast<const __m128i*>(kPlaces.halves[bits]))));
  });
}

void expandFloats(const void* values, const uint8_t* mask, int cols, void* out) {
  expand<uint32_t>(values, mask, cols, out, [](const uint32_t* from, uint8_t bits, uint32_t* to) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPlaces.floats[bits])));
    const __m256i gone = _mm256_cmpgt_epi32(places, _mm256_set1_epi32(127));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_andnot_si256(gone, _mm256_permutevar8x32_epi32(v, places)));
  });
}

constexpr ExpandKernels kTable = {expandHalves, expandFloats};

}  // namespace

const ExpandKernels* avx2ExpandKernels() { return &kTable; }

}  // namespace winnow::cpu
#else

namespace winnow::cpu {
const ExpandKernels* avx2ExpandKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
