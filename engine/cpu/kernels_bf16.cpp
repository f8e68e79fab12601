// SPDX-License-Identifier: GPL-3.0-or-later
// Products with vdpbf16ps. Codes of up to 8 bits less their offset are exact in bf16 (8 significant bits), and an f16 (11 bits) is
// the sum of two bf16 terms: code times x is then exact and added up in f32. vpermw turns codes of up to 5 bits straight into
// bf16, two to a lane: half the instructions of the way over f32. An f32 would take three terms, which is no faster than fma.
#if defined(__AVX512BF16__)
#include "engine/cpu/packed.h"
#include "engine/cpu/peak.h"
#include "engine/cpu/plain.h"

namespace winnow::cpu {
namespace {

INLINE __m512 dot2(__m512 acc, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

struct PlainBf16 {
  template <int R, int T>
  static void block(const MatmulJob& job, int row, int firstToken) {
    const uint16_t* w = static_cast<const uint16_t*>(job.w) + static_cast<int64_t>(row) * job.cols;
    const uint16_t* x = static_cast<const uint16_t*>(job.x) + firstToken * job.xStride;
    Vf a[R][T];
    UNROLL for (int r = 0; r < R; ++r) UNROLL for (int t = 0; t < T; ++t) a[r][t] = set1(0);
    int k = 0;
    for (; k + 32 <= job.cols; k += 32) {
      __m512i wv[R];
      UNROLL for (int r = 0; r < R; ++r) wv[r] = _mm512_loadu_si512(w + static_cast<int64_t>(r) * job.cols + k);
      UNROLL for (int t = 0; t < T; ++t) {
        const __m512i xv = _mm512_loadu_si512(x + t * job.xStride + k);
        UNROLL for (int r = 0; r < R; ++r) a[r][t].v = dot2(a[r][t].v, wv[r], xv);
      }
    }
    if (k < job.cols) {
      const __mmask32 rest = (1u << (job.cols - k)) - 1;
      UNROLL for (int r = 0; r < R; ++r) {
        const __m512i wv = _mm512_maskz_loadu_epi16(rest, w + static_cast<int64_t>(r) * job.cols + k);
        UNROLL for (int t = 0; t < T; ++t) a[r][t].v = dot2(a[r][t].v, wv, _mm512_maskz_loadu_epi16(rest, x + t * job.xStride + k));
      }
    }
    storeSums<R, T>(job, row, firstToken, a);
  }
};

// Codes to bf16(code - offset); 64 entries, repeated for narrower codes.
struct Lookup {
  __m512i low, high;
};
template <int Bits>
INLINE Lookup makeLookup(int offset) {
  Lookup t = {};
  if constexpr (Bits != 8) {
    uint16_t table[64];
    for (int i = 0; i < 64; ++i) {
      const float f = static_cast<float>((i & ((1 << Bits) - 1)) - offset);
      uint32_t u;
      memcpy(&u, &f, 4);
      table[i] = static_cast<uint16_t>(u >> 16);
    }
    t.low = _mm512_loadu_si512(table);
    t.high = _mm512_loadu_si512(table + 32);
  }
  return t;
}

// The two pairs of dword p: values {4p, 4p + 2} and {4p + 1, 4p + 3}.
template <int Bits, int p>
INLINE void codePairs(const uint8_t* chunk, const Lookup& table, Vf minus, __m512i& even, __m512i& odd) {
  if constexpr (Bits == 8) {
    const I16 d = codeDwords<8, p>(chunk);
    const auto pair = [](Vf a, Vf b) INLINE_LAMBDA {  // upper halves of a below those of b
      const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
      return _mm512_ternarylogic_epi32(_mm512_srli_epi32(_mm512_castps_si512(a.v), 16), _mm512_castps_si512(b.v), upper,
                                       0xf8);  // A | (B & C)
    };
    even = pair(byteToFloat<0>(d, minus).v[0], byteToFloat<2>(d, minus).v[0]);
    odd = pair(byteToFloat<1>(d, minus).v[0], byteToFloat<3>(d, minus).v[0]);
  } else if constexpr (Bits == 4 || Bits == 2) {  // bits above the code pick an equal entry
    constexpr int perByte = 8 / Bits, blocks = 8 / perByte;
    const __m512i raw = loadBytes(chunk + 64 * (p % blocks)).v[0].v;
    constexpr int shift = p / blocks * Bits;
    even = _mm512_permutexvar_epi16(shift == 0 ? raw : _mm512_srli_epi16(raw, shift), table.low);
    odd = _mm512_permutexvar_epi16(_mm512_srli_epi16(raw, shift + 8), table.low);
  } else if constexpr (Bits == 6) {
    const __m512i d = codeDwords<6, p>(chunk).v[0].v;
    even = _mm512_permutex2var_epi16(table.low, d, table.high);
    odd = _mm512_permutex2var_epi16(table.low, _mm512_srli_epi16(d, 8), table.high);
  } else {
    const __m512i d = codeDwords<Bits, p>(chunk).v[0].v;
    even = _mm512_permutexvar_epi16(d, table.low);
    odd = _mm512_permutexvar_epi16(_mm512_srli_epi16(d, 8), table.low);
  }
}

template <int Terms>
struct PackedPairs {
  template <int Bits, int T>
  struct Kernel {
    static void block(const MatmulJob& job, int tile, int firstToken) {
      const int32_t* base = static_cast<const int32_t*>(job.x) + firstToken * job.xStride;
      const Lookup table = makeLookup<Bits>(job.offset);
      const Vf minus = set1(8388608.0f + static_cast<float>(job.offset));
      V16 total[T];
      UNROLL for (int t = 0; t < T; ++t) total[t] = set16(0);
      eachChunk<Bits, T, 2048>(job, tile, firstToken, total, [&](const uint8_t* code, int c, const V16& scale) INLINE_LAMBDA {
        eachDword<T>(scale, total, [&, x = base + c * 16 * Terms * T](auto dword, V16 (&a)[2][T]) INLINE_LAMBDA {
          constexpr int p = decltype(dword)::value;
          __m512i even, odd;
          codePairs<Bits, p>(code, table, minus, even, odd);
          UNROLL for (int t = 0; t < T; ++t) UNROLL for (int i = 0; i < Terms; ++i) {
            const int32_t* xt = x + (t * Terms + i) * 16 + 2 * p;
            a[0][t].v[0].v = dot2(a[0][t].v[0].v, even, _mm512_set1_epi32(xt[0]));
            a[1][t].v[0].v = dot2(a[1][t].v[0].v, odd, _mm512_set1_epi32(xt[1]));
          }
        });
      });
      storeTile<T>(job, tile, firstToken, total);
    }
  };
};

template <int Bits>
void pairsProduct(const MatmulJob& job, int begin, int end) {
  if (job.terms == 1) return packedProduct<PackedPairs<1>::Kernel, Bits>(job, begin, end);
  packedProduct<PackedPairs<2>::Kernel, Bits>(job, begin, end);
}

void bf16Row(const float* x, int cols, uint16_t* out) {
  for (int i = 0; i < cols; i += 16) {
    const __m512i u = _mm512_castps_si512(roundToBf16(loadPart(x + i, cols - i < 16 ? cols - i : 16)).v);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm512_cvtepi32_epi16(_mm512_srli_epi32(u, 16)));
  }
}

void pairsRow(int mode, const float* x, int cols, int terms, int64_t stride, uint32_t* out) {
  uint16_t order[32];  // word w of a chunk: dword pair w / 4, even or odd values, first or second of them
  for (int w = 0; w < 32; ++w) order[w] = static_cast<uint16_t>(w / 4 * 4 + (w >> 1 & 1) + 2 * (w & 1));
  const __m512i permutation = _mm512_loadu_si512(order);
  for (int c = 0; c < cols; c += 32, out += stride) {
    const int n = cols - c;
    Vf rest[2] = {loadPart(x + c, n < 16 ? n : 16), loadPart(x + c + 16, n <= 16 ? 0 : n < 32 ? n - 16 : 16)};
    if (mode == 1) {
      rest[0] = roundToHalf(rest[0]);
      rest[1] = roundToHalf(rest[1]);
    }
    for (int i = 0; i < terms; ++i) {
      const Vf a = roundToBf16(rest[0]), b = roundToBf16(rest[1]);
      rest[0] = sub(rest[0], a);
      rest[1] = sub(rest[1], b);
      const __m256i low = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(a.v), 16));
      const __m256i high = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(b.v), 16));
      const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
      _mm512_storeu_si512(out + i * 16, _mm512_permutexvar_epi16(permutation, words));
    }
  }
}

int64_t peakBf16(int rounds, float* keep) {
  Vf a[kChains];
  UNROLL for (int j = 0; j < kChains; ++j) a[j] = set1(*keep);
  const __m512i x = _mm512_set1_epi32(static_cast<int>(*keep) * 0x3f003f00), y = x;
  runChains(a, rounds, [&](Vf v) INLINE_LAMBDA { return Vf{dot2(v.v, x, y)}; });
  UNROLL for (int j = 1; j < kChains; ++j) a[0] = add(a[0], a[j]);
  *keep = hsum(a[0]);
  return int64_t{rounds} * kChains * 32;
}

constexpr Bf16Kernels kBf16Table = {
    .peakBf16 = peakBf16,
    .plainBf16 = plainProduct<PlainBf16, 2>,
    .packedPairs = {nullptr, nullptr, pairsProduct<2>, pairsProduct<3>, pairsProduct<4>, pairsProduct<5>, pairsProduct<6>, nullptr,
                    pairsProduct<8>},
    .bf16Row = bf16Row,
    .pairsRow = pairsRow,
};

}  // namespace

const Bf16Kernels* bf16Kernels() { return &kBf16Table; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/kernels.h"

namespace winnow::cpu {
const Bf16Kernels* bf16Kernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
