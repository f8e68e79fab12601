// SPDX-License-Identifier: GPL-3.0-or-later
// Products as in packed.h for codes that are no integers, turned into floats (or, for int8, into integers) by a table in registers or by
// moving their bits, and for integers with a scale for each half of a chunk. None has minimums.
#pragma once
#include "engine/cpu/code_kernels.h"
#include "engine/cpu/packed.h"

namespace winnow::cpu {
namespace {

// Walks the chunks of a tile; body(code, chunk, scale of the first half, of the second).
template <int Kind, int T, class Body>
INLINE void eachCodeChunk(const MatmulJob& job, int tile, Body body) {
  constexpr int Bits = bitsOf(Kind);
  const int chunks = job.chunks();
  const uint8_t* code = tileCodes(job, Bits, tile);
  const auto prefetch = [&] {  // as eachChunk does
    if constexpr (T == 1) {
      UNROLL for (int i = 0; i < Bits; ++i) __builtin_prefetch(code + 2048 + 64 * i);
    }
  };
  if constexpr (hasHalves(Kind)) {
    const int superChunks = job.superGroups / 2;
    const uint16_t* scales = job.scales + static_cast<int64_t>(tile) * ((chunks + superChunks - 1) / superChunks) * 16;
    const uint8_t* steps = job.steps + static_cast<int64_t>(tile) * chunks * 32;
    const V16 middle = set16(-128);
    for (int c = 0; c < chunks; scales += 16) {
      const V16 scale = loadHalf16(scales);
      const int end = c + superChunks < chunks ? c + superChunks : chunks;
      for (; c < end; ++c, code += 64 * Bits, steps += 32) {
        prefetch();
        body(code, c, mul(scale, add(loadByteFloats16(steps), middle)), mul(scale, add(loadByteFloats16(steps + 16), middle)));
      }
    }
  } else {
    const int64_t at = static_cast<int64_t>(tile) * job.groups * 16;
    for (int g = 0, c = 0; g < job.groups; ++g) {
      const V16 scale = Kind == kTable4 && !job.scales ? loadPowers16(job.steps + at + g * 16) : loadHalf16(job.scales + at + g * 16);
      const int end = c + job.groupChunks < chunks ? c + job.groupChunks : chunks;
      for (; c < end; ++c, code += 64 * Bits) {
        prefetch();
        body(code, c, scale, scale);
      }
    }
  }
}

// Codes to floats, without the scale: value<b>(dwords<p>(chunk)) is that of 4p + b.
template <int Kind>
struct Decoder {  // integers, less their offset
  Vf minus;
  explicit Decoder(const MatmulJob& job) : minus(set1(8388608.0f + static_cast<float>(job.offset))) {}
  template <int p>
  INLINE I16 dwords(const uint8_t* chunk) const {
    return codeDwords<bitsOf(Kind), p>(chunk);
  }
  template <int b>
  INLINE V16 value(const I16& d) const {
    return byteToFloat<b>(d, minus);
  }
};
template <>
struct Decoder<kTable4> {
  ValueTable table;
  explicit Decoder(const MatmulJob& job) : table(loadValues(job.values)) {}
  template <int p>
  INLINE I16 dwords(const uint8_t* chunk) const {  // four bits above the beginning of each byte are looked at, no more
    return shr<p / 4 * 4>(loadBytes(chunk + 64 * (p % 4)));
  }
  template <int b>
  INLINE V16 value(const I16& d) const {
    return pick(table, shr<8 * b>(d));
  }
};
template <int exponent>
struct FloatDecoder {
  Vf unit;
  explicit FloatDecoder(const MatmulJob&) : unit(set1(exponent == 4 ? 0x1p120f : 0x1p112f)) {}
  template <int p>
  INLINE I16 dwords(const uint8_t* chunk) const {
    return loadBytes(chunk + 64 * p);
  }
  template <int b>
  INLINE V16 value(const I16& d) const {
    return smallFloat<exponent, b>(d, unit);
  }
};
template <>
struct Decoder<kE4M3> : FloatDecoder<4> {
  using FloatDecoder::FloatDecoder;
};
template <>
struct Decoder<kE5M2> : FloatDecoder<5> {
  using FloatDecoder::FloatDecoder;
};

template <int Kind>
struct CodeFloat {
  template <int, int T>
  struct Kernel {
    static void block(const MatmulJob& job, int tile, int firstToken) {
      const float* base = static_cast<const float*>(job.x) + firstToken * job.xStride;
      const Decoder<Kind> decoder(job);
      V16 total[T];
      UNROLL for (int t = 0; t < T; ++t) total[t] = set16(0);
      eachCodeChunk<Kind, T>(job, tile, [&](const uint8_t* code, int c, const V16& first, const V16& second) INLINE_LAMBDA {
        eachDword<T>(first, second, total, [&, x = base + c * 32 * T](auto dword, V16 (&a)[2][T]) INLINE_LAMBDA {
          constexpr int p = decltype(dword)::value;
          const I16 d = decoder.template dwords<p>(code);
          const V16 w0 = decoder.template value<0>(d), w1 = decoder.template value<1>(d);
          UNROLL for (int t = 0; t < T; ++t) {
            a[0][t] = fma(w0, set1(x[t * 32 + 4 * p]), a[0][t]);
            a[1][t] = fma(w1, set1(x[t * 32 + 4 * p + 1]), a[1][t]);
          }
          const V16 w2 = decoder.template value<2>(d), w3 = decoder.template value<3>(d);
          UNROLL for (int t = 0; t < T; ++t) {
            a[0][t] = fma(w2, set1(x[t * 32 + 4 * p + 2]), a[0][t]);
            a[1][t] = fma(w3, set1(x[t * 32 + 4 * p + 3]), a[1][t]);
          }
        });
      });
      storeTile<T>(job, tile, firstToken, total);
    }
  };
};

// Dwords p to last - 1 of a chunk.
template <int Kind, int T, int p, int last>
INLINE void dotCodeDwords(const uint8_t* code, const int32_t* x, Vi levels, I16 (&a)[T]) {
  I16 d = codeDwords<bitsOf(Kind), p>(code);
  if constexpr (Kind == kTable4) d = pickBytes(levels, d);
  UNROLL for (int t = 0; t < T; ++t) a[t] = dot4(a[t], d, x[t * 8 + p]);
  if constexpr (p + 1 < last) dotCodeDwords<Kind, T, p + 1, last>(code, x, levels, a);
}

template <int Kind>
struct CodeInt8 {
  template <int, int T>
  struct Kernel {
    static void block(const MatmulJob& job, int tile, int firstToken) {
      constexpr int kHalves = hasHalves(Kind) ? 2 : 1;
      const int chunks = job.chunks();
      const int32_t* x = static_cast<const int32_t*>(job.x) + firstToken * (job.xStride / 4);
      const float* scales = job.xScales + static_cast<int64_t>(firstToken) * chunks;
      const int32_t* corrections = job.xCorrections + static_cast<int64_t>(firstToken) * chunks * kHalves;
      Vi levels = setInt(0);
      if constexpr (Kind == kTable4) levels = loadByteTable(job.levels8);
      const Vf unit = set1(job.unit8);
      V16 total[T];
      UNROLL for (int t = 0; t < T; ++t) total[t] = set16(0);
      const auto part = [&](auto from, const uint8_t* code, int c, const V16& scale) INLINE_LAMBDA {
        constexpr int kFirst = decltype(from)::value;
        I16 a[T];
        UNROLL for (int t = 0; t < T; ++t) a[t] = setInt16(corrections[(c * kHalves + kFirst / 4) * T + t]);
        dotCodeDwords<Kind, T, kFirst, kFirst + 8 / kHalves>(code, x + c * 8 * T, levels, a);
        UNROLL for (int t = 0; t < T; ++t) total[t] = fma(mul(toFloat(a[t]), set1(scales[c * T + t])), scale, total[t]);
      };
      eachCodeChunk<Kind, T>(job, tile, [&](const uint8_t* code, int c, const V16& first, const V16& second) INLINE_LAMBDA {
        part(Int<0>{}, code, c, Kind == kTable4 ? mul(first, unit) : first);
        if constexpr (kHalves == 2) part(Int<4>{}, code, c, second);
      });
      storeTile<T>(job, tile, firstToken, total);
    }
  };
};

#define WINNOW_CODE_INT8_TABLE                                                                                        \
  {packedProduct<CodeInt8<kTable4>::Kernel, bitsOf(kTable4)>, nullptr, nullptr,                                       \
   packedProduct<CodeInt8<kHalves3>::Kernel, bitsOf(kHalves3)>, packedProduct<CodeInt8<kHalves6>::Kernel, bitsOf(kHalves6)>}

}  // namespace
}  // namespace winnow::cpu
