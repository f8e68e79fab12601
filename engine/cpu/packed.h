// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products on packed tiles (engine/weights/matrix.h): 16 rows in 16 lanes, x broadcast, so no sum crosses lanes.
// Every 32 values are summed on their own and scaled once: total += scale * sum(code * x), + min * sum(x). The order of the
// sums is a function of the format alone, so one token and many tokens give the same bits.
#pragma once
#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"

namespace winnow::cpu {
namespace {

// The codes of values 4p .. 4p+3 of each row as the bytes of its dword. Bits of a further plane are shifted straight to their place.
template <int Bits, int p>
INLINE I16 codeDwords(const uint8_t* chunk) {
  if constexpr (Bits == 8) {
    return loadBytes(chunk + 64 * p);
  } else if constexpr (Bits == 4) {
    return band(shr<p / 4 * 4>(loadBytes(chunk + 64 * (p % 4))), 0x0f0f0f0f);
  } else if constexpr (Bits == 2) {
    return band(shr<p / 2 * 2>(loadBytes(chunk + 64 * (p % 2))), 0x03030303);
  } else if constexpr (Bits == 3) {
    return orBits(codeDwords<2, p>(chunk), shift<2 - p>(loadBytes(chunk + 128)), 0x04040404);
  } else if constexpr (Bits == 5) {
    return orBits(codeDwords<4, p>(chunk), shift<4 - p>(loadBytes(chunk + 256)), 0x10101010);
  } else {
    static_assert(Bits == 6);
    return orBits(codeDwords<4, p>(chunk), shift<4 - p / 2 * 2>(loadBytes(chunk + 256 + 64 * (p % 2))), 0x30303030);
  }
}

template <int T>
INLINE void storeTile(const MatmulJob& job, int tile, int firstToken, const V16 (&total)[T]) {
  const int row = tile * 16, n = job.rows - row < 16 ? job.rows - row : 16;
  for (int t = 0; t < T; ++t) {
    float* y = job.y + (firstToken + t) * job.yStride + row;
    V16 v = total[t];
    if (job.bias) v = add(v, loadPart16(job.bias + row, n));
    if (job.accumulate) v = add(v, loadPart16(y, n));
    storePart16(y, v, n);
  }
}

INLINE const uint8_t* tileCodes(const MatmulJob& job, int bits, int tile) {
  return static_cast<const uint8_t*>(job.w) + static_cast<int64_t>(tile) * job.chunks() * 64 * bits;
}

// Scales and minimums of the groups of a tile, in order.
struct GroupScales {
  const uint16_t *scales, *mins;  // of the group or super-block at hand
  const uint8_t* steps;
  const int superGroups;
  int left = 0;  // groups of the super-block
  GroupScales(const MatmulJob& job, int tile) : superGroups(job.superGroups) {
    const int64_t count = (job.groups + superGroups - 1) / superGroups, at = (tile * count - 1) * 16;  // one before the first
    scales = job.scales + at;
    mins = job.mins ? job.mins + at : nullptr;
    steps = job.steps ? job.steps + (static_cast<int64_t>(tile) * job.groups - 1) * 32 : nullptr;
  }
  INLINE V16 next() {
    if (!steps) {
      scales += 16;
      if (mins) mins += 16;
      return loadHalf16(scales);
    }
    steps += 32;
    if (left == 0) {
      scales += 16;
      mins += 16;
      left = superGroups;
    }
    --left;
    return mul(loadHalf16(scales), loadByteFloats16(steps));
  }
  INLINE V16 min() const { return steps ? mul(loadHalf16(mins), loadByteFloats16(steps + 16)) : loadHalf16(mins); }
};

// Walks the chunks of a tile; body(code, chunk, scale) for each, then min * sum(x) where the format has minimums.
// Prefetch: bytes ahead that one token's pass asks for, or 0. Where a chunk takes longer to compute than to read, too little of the
// future is in flight without it (Zen 4, 4 bit, f16: 16.7 GB/s against 21.6); where reading is all, it only costs (8 bit, int8: 32 to 27).
template <int Bits, int T, int Prefetch, class Body>
INLINE void eachChunk(const MatmulJob& job, int tile, int firstToken, V16 (&total)[T], Body body) {
  const int chunks = job.chunks();
  const uint8_t* code = tileCodes(job, Bits, tile);
  GroupScales scales(job, tile);
  for (int g = 0, c = 0; g < job.groups; ++g) {
    const V16 scale = scales.next();
    const int end = c + job.groupChunks < chunks ? c + job.groupChunks : chunks;
    for (; c < end; ++c, code += 64 * Bits) {
      if constexpr (T == 1 && Prefetch > 0) {
        UNROLL for (int i = 0; i < Bits; ++i) __builtin_prefetch(code + Prefetch + 64 * i);
      }
      body(code, c, scale);
    }
    if (job.mins) {
      const V16 min = scales.min();
      const int first = g * job.groupChunks;
      for (int t = 0; t < T; ++t) {
        const float* sums = job.xSums + static_cast<int64_t>(firstToken) * chunks + t;
        for (int i = first; i < end; ++i) total[t] = fma(min, set1(sums[i * T]), total[t]);
      }
    }
  }
}

template <int v>
struct Int {
  static constexpr int value = v;
};
template <int T>
INLINE void clear(V16 (&a)[2][T]) {
  UNROLL for (int t = 0; t < T; ++t) a[0][t] = a[1][t] = set16(0);
}
template <int T>
INLINE void fold(const V16 (&a)[2][T], const V16& scale, V16 (&total)[T]) {
  UNROLL for (int t = 0; t < T; ++t) total[t] = fma(add(a[0][t], a[1][t]), scale, total[t]);
}
// Calls step(p, sums) for the eight dwords of a chunk. Each half of the chunk has two running sums of its own: with one token all four
// run at once, or the latency of a chain would bound the speed; with many the halves follow each other in the same registers.
template <int T, class Step>
INLINE void eachDword(const V16& first, const V16& second /* scales of the halves */, V16 (&total)[T], Step step) {
  V16 a[2][T];
  clear(a);
  if constexpr (T == 1) {
    V16 b[2][T];
    clear(b);
    step(Int<0>{}, a), step(Int<4>{}, b), step(Int<1>{}, a), step(Int<5>{}, b);
    step(Int<2>{}, a), step(Int<6>{}, b), step(Int<3>{}, a), step(Int<7>{}, b);
    fold(a, first, total);
    fold(b, second, total);
  } else {
    step(Int<0>{}, a), step(Int<1>{}, a), step(Int<2>{}, a), step(Int<3>{}, a);
    fold(a, first, total);
    clear(a);
    step(Int<4>{}, a), step(Int<5>{}, a), step(Int<6>{}, a), step(Int<7>{}, a);
    fold(a, second, total);
  }
}
template <int T, class Step>
INLINE void eachDword(const V16& scale, V16 (&total)[T], Step step) {
  eachDword<T>(scale, scale, total, step);
}

template <int Bits, int T>
struct PackedFloat {
  static void block(const MatmulJob& job, int tile, int firstToken) {
    constexpr int kPrefetch = 2048;
    const float* base = static_cast<const float*>(job.x) + firstToken * job.xStride;
    const Vf minus = set1(8388608.0f + static_cast<float>(job.offset));
    V16 total[T];
    UNROLL for (int t = 0; t < T; ++t) total[t] = set16(0);
    eachChunk<Bits, T, kPrefetch>(job, tile, firstToken, total, [&](const uint8_t* code, int c, const V16& scale) INLINE_LAMBDA {
      eachDword<T>(scale, total, [&, x = base + c * 32 * T](auto dword, V16 (&a)[2][T]) INLINE_LAMBDA {
        constexpr int p = decltype(dword)::value;
        const I16 d = codeDwords<Bits, p>(code);
        const V16 w0 = byteToFloat<0>(d, minus), w1 = byteToFloat<1>(d, minus);
        UNROLL for (int t = 0; t < T; ++t) {
          a[0][t] = fma(w0, set1(x[t * 32 + 4 * p]), a[0][t]);
          a[1][t] = fma(w1, set1(x[t * 32 + 4 * p + 1]), a[1][t]);
        }
        const V16 w2 = byteToFloat<2>(d, minus), w3 = byteToFloat<3>(d, minus);
        UNROLL for (int t = 0; t < T; ++t) {
          a[0][t] = fma(w2, set1(x[t * 32 + 4 * p + 2]), a[0][t]);
          a[1][t] = fma(w3, set1(x[t * 32 + 4 * p + 3]), a[1][t]);
        }
      });
    });
    storeTile<T>(job, tile, firstToken, total);
  }
};

template <int Bits, int T, int p>
INLINE void dotDwords(const uint8_t* code, const int32_t* x, I16 (&a)[T]) {
  const I16 d = codeDwords<Bits, p>(code);
  UNROLL for (int t = 0; t < T; ++t) a[t] = dot4(a[t], d, x[t * 8 + p]);
  if constexpr (p < 7) dotDwords<Bits, T, p + 1>(code, x, a);
}

template <int Bits, int T>
struct PackedInt8 {
  static void block(const MatmulJob& job, int tile, int firstToken) {
    const int chunks = job.chunks();
    const int32_t* x = static_cast<const int32_t*>(job.x) + firstToken * (job.xStride / 4);
    const float* scales = job.xScales + static_cast<int64_t>(firstToken) * chunks;
    const int32_t* corrections = job.xCorrections + static_cast<int64_t>(firstToken) * chunks;
    V16 total[T];
    UNROLL for (int t = 0; t < T; ++t) total[t] = set16(0);
    eachChunk<Bits, T, Bits == 8 ? 0 : 2048>(job, tile, firstToken, total, [&](const uint8_t* code, int c, const V16& scale) INLINE_LAMBDA {
      I16 a[T];
      UNROLL for (int t = 0; t < T; ++t) a[t] = setInt16(corrections[c * T + t]);
      dotDwords<Bits, T, 0>(code, x + c * 8 * T, a);
      UNROLL for (int t = 0; t < T; ++t) total[t] = fma(mul(toFloat(a[t]), set1(scales[c * T + t])), scale, total[t]);
    });
    storeTile<T>(job, tile, firstToken, total);
  }
};

// Tiles come in blocks that stay in the L2 cache while the tokens pass, in blocks as tokenBlockOf says: 8 where there are 32
// registers, 4 and 2 where there are 16.
constexpr int kTokenBlock = kLanes == 16 ? 8 : kLanes == 8 ? 4 : 2;

template <template <int, int> class Kernel, int Bits>
void packedProduct(const MatmulJob& job, int begin, int end) {
  constexpr int64_t kBlockBytes = 256 << 10;
  const int64_t tileBytes = static_cast<int64_t>(job.chunks()) * 64 * Bits;
  const int blockTiles = tileBytes >= kBlockBytes ? 1 : static_cast<int>(kBlockBytes / tileBytes);
  const int lastTile = (end + 15) / 16;
  for (int first = begin / 16; first < lastTile; first += blockTiles) {
    const int last = first + blockTiles < lastTile ? first + blockTiles : lastTile;
    for (int t = 0; t < job.tokens;) {
      const int size = tokenBlockOf(t, job.tokens, kTokenBlock).size;
      for (int tile = first; tile < last; ++tile) {
        if (kTokenBlock >= 8 && size == 8) Kernel<Bits, kTokenBlock >= 8 ? 8 : 1>::block(job, tile, t);
        if (kTokenBlock >= 4 && size == 4) Kernel<Bits, kTokenBlock >= 4 ? 4 : 1>::block(job, tile, t);
        if (size == 2) Kernel<Bits, 2>::block(job, tile, t);
        if (size == 1) Kernel<Bits, 1>::block(job, tile, t);
      }
      t += size;
    }
  }
}

#define WINNOW_PACKED_TABLE(kernel)                                                                                                    \
  {nullptr, nullptr, packedProduct<kernel, 2>, packedProduct<kernel, 3>, packedProduct<kernel, 4>, packedProduct<kernel, 5>,          \
   packedProduct<kernel, 6>, nullptr, packedProduct<kernel, 8>}

}  // namespace
}  // namespace winnow::cpu
