// SPDX-License-Identifier: GPL-3.0-or-later
// Attention kernels over f16 pages. Decoding reads pages as they are, lanes along the head's components; several query heads
// share every load. Prefill widens one page at a time and multiplies it with a block of queries (smallProduct).
#pragma once
#include "engine/cpu/pointwise.h"

namespace winnow::cpu {
namespace {

// Calls body(first slot, its vector, number of slots) for the part of each page that [begin, end) covers.
template <class Body>
INLINE void eachPage(const uint16_t* const* pages, const HeadPages& h, int begin, int end, Body body) {
  for (int page = begin / h.pageTokens; begin < end; ++page) {
    const int stop = (page + 1) * h.pageTokens < end ? (page + 1) * h.pageTokens : end;
    body(begin, pages[page] + static_cast<int64_t>(begin - page * h.pageTokens) * h.n, stop - begin);
    begin = stop;
  }
}
INLINE Vf loadHalfUpTo(const uint16_t* p, int n) { return n == kLanes ? loadHalf(p) : loadHalfPart(p, n); }

// Scores of up to 4 neighbouring slots for G heads.
template <int G>
INLINE void scoresOf4(const uint16_t* k, const float* q, int n, float scale, int count, float* scores, int64_t stride) {
  const int64_t step[4] = {0, count > 1 ? n : 0, count > 2 ? 2 * n : 0, count > 3 ? 3 * n : 0};
  Vf a[G][4];
  UNROLL for (int g = 0; g < G; ++g) UNROLL for (int s = 0; s < 4; ++s) a[g][s] = set1(0);
  eachBlock(n, [&](int64_t c, int m) INLINE_LAMBDA {
    Vf kv[4];
    UNROLL for (int s = 0; s < 4; ++s) kv[s] = loadHalfUpTo(k + step[s] + c, m);
    UNROLL for (int g = 0; g < G; ++g) {
      const Vf qv = loadUpTo(q + g * n + c, m);
      UNROLL for (int s = 0; s < 4; ++s) a[g][s] = fma(kv[s], qv, a[g][s]);
    }
  });
  UNROLL for (int g = 0; g < G; ++g) {
    float sums[4];
    hsum4(a[g][0], a[g][1], a[g][2], a[g][3], sums);
    if (count == 4) {
      UNROLL for (int s = 0; s < 4; ++s) scores[g * stride + s] = sums[s] * scale;
    } else {
      for (int s = 0; s < count; ++s) scores[g * stride + s] = sums[s] * scale;
    }
  }
}

void scores(const HeadPages& h, const float* q, int heads, float scale, int begin, int end, float* out, int64_t stride) {
  eachPage(h.keys, h, begin, end, [&](int first, const uint16_t* k, int slots) INLINE_LAMBDA {
    for (int s = 0; s < slots; s += 4, k += 4 * h.n) {
      const int count = slots - s < 4 ? slots - s : 4;
      float* to = out + first - begin + s;
      int g = 0;
      for (; g + 4 <= heads; g += 4) scoresOf4<4>(k, q + g * h.n, h.n, scale, count, to + g * stride, stride);
      for (; g + 2 <= heads; g += 2) scoresOf4<2>(k, q + g * h.n, h.n, scale, count, to + g * stride, stride);
      for (; g < heads; ++g) scoresOf4<1>(k, q + g * h.n, h.n, scale, count, to + g * stride, stride);
    }
  });
}

// Components [c, c + C * kLanes) of G heads; the last vector holds `last` components.
template <int G, int C>
INLINE void weighBlock(const HeadPages& h, const float* p, int64_t stride, int begin, int end, int c, int last, float* out) {
  Vf a[G][C];
  UNROLL for (int g = 0; g < G; ++g) UNROLL for (int i = 0; i < C; ++i) a[g][i] = set1(0);
  eachPage(h.values, h, begin, end, [&](int first, const uint16_t* v, int slots) INLINE_LAMBDA {
    const float* weights = p + first - begin;
    v += c;
    for (int s = 0; s < slots; ++s, v += h.n) {
      Vf vv[C];
      UNROLL for (int i = 0; i < C; ++i) vv[i] = i < C - 1 ? loadHalf(v + i * kLanes) : loadHalfUpTo(v + i * kLanes, last);
      UNROLL for (int g = 0; g < G; ++g) {
        const Vf pv = set1(weights[g * stride + s]);
        UNROLL for (int i = 0; i < C; ++i) a[g][i] = fma(vv[i], pv, a[g][i]);
      }
    }
  });
  UNROLL for (int g = 0; g < G; ++g) UNROLL
    for (int i = 0; i < C; ++i) storeUpTo(out + g * h.n + c + i * kLanes, a[g][i], i < C - 1 ? kLanes : last);
}

template <int G>
INLINE void weighHeads(const HeadPages& h, const float* p, int64_t stride, int begin, int end, float* out) {
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  int c = 0;
  for (; c + kVectors * kLanes <= h.n; c += kVectors * kLanes) weighBlock<G, kVectors>(h, p, stride, begin, end, c, kLanes, out);
  for (; c < h.n; c += kLanes) weighBlock<G, 1>(h, p, stride, begin, end, c, h.n - c < kLanes ? h.n - c : kLanes, out);
}

void weighValues(const HeadPages& h, const float* p, int64_t stride, int heads, int begin, int end, float* out) {
  int g = 0;
  for (; g + 4 <= heads; g += 4) weighHeads<4>(h, p + g * stride, stride, begin, end, out + g * h.n);
  for (; g + 2 <= heads; g += 2) weighHeads<2>(h, p + g * stride, stride, begin, end, out + g * h.n);
  for (; g < heads; ++g) weighHeads<1>(h, p + g * stride, stride, begin, end, out + g * h.n);
}

void softmaxPart(float* x, int count, float* largest, float* sum) {
  Vf m = set1(-__builtin_inff());
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) m = vmax(m, load(x + i));
  float top = hmax(m);
  for (; i < count; ++i) top = x[i] > top ? x[i] : top;
  Vf s = set1(0);
  for (i = 0; i + kLanes <= count; i += kLanes) {
    const Vf e = exponential(sub(load(x + i), set1(top)));
    store(x + i, e);
    s = add(s, e);
  }
  float total = hsum(s);
  if (i < count) {
    storePart(x + i, exponential(sub(loadPart(x + i, count - i), set1(top))), count - i);
    for (; i < count; ++i) total += x[i];
  }
  *largest = top;
  *sum = total;
}

void probabilities(const float* x, int count, float largest, float factor, float* out) {
  eachBlock(count, [&](int64_t i, int n) INLINE_LAMBDA {
    storeUpTo(out + i, mul(exponential(sub(loadUpTo(x + i, n), set1(largest))), set1(factor)), n);
  });
}

void transposeKeys(const uint16_t* page, int n, int count, int width, float* out) {
  for (int s = 0; s < width; s += kLanes)
    for (int c = 0; c < n; c += kLanes) {
      const int m = n - c < kLanes ? n - c : kLanes;
      Vf block[kLanes];
      for (int i = 0; i < kLanes; ++i)
        block[i] = s + i < count ? loadHalfUpTo(page + static_cast<int64_t>(s + i) * n + c, m) : set1(0);
      transpose(block);
      for (int i = 0; i < m; ++i) store(out + static_cast<int64_t>(c + i) * width + s, block[i]);
    }
}

void widenValues(const uint16_t* page, int n, int count, int padded, float* out) {
  for (int s = 0; s < count; ++s)
    for (int c = 0; c < padded; c += kLanes) {
      const int m = n - c < kLanes ? (n - c < 0 ? 0 : n - c) : kLanes;
      store(out + static_cast<int64_t>(s) * padded + c, loadHalfUpTo(page + static_cast<int64_t>(s) * n + c, m));
    }
}

template <int R, int C>
INLINE void productBlock(const float* a, int64_t aStride, const float* b, int64_t bStride, int k, float* c, int64_t cStride,
                         bool accumulate) {
  Vf sum[R][C];
  UNROLL for (int r = 0; r < R; ++r) UNROLL
    for (int i = 0; i < C; ++i) sum[r][i] = accumulate ? load(c + r * cStride + i * kLanes) : set1(0);
  for (int j = 0; j < k; ++j) {
    Vf bv[C];
    UNROLL for (int i = 0; i < C; ++i) bv[i] = load(b + j * bStride + i * kLanes);
    UNROLL for (int r = 0; r < R; ++r) {
      const Vf av = set1(a[r * aStride + j]);
      UNROLL for (int i = 0; i < C; ++i) sum[r][i] = fma(av, bv[i], sum[r][i]);
    }
  }
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int i = 0; i < C; ++i) store(c + r * cStride + i * kLanes, sum[r][i]);
}

void smallProduct(const float* a, int64_t aStride, const float* b, int64_t bStride, int m, int k, int cols, float* c, int64_t cStride,
                  bool accumulate) {
  constexpr int kRows = kLanes == 16 ? 6 : kLanes == 8 ? 4 : 2;
  const auto columns = [&](auto rows, int r) INLINE_LAMBDA {
    constexpr int R = decltype(rows)::value;
    constexpr int C = kLanes == 16 ? 4 : 2;
    const float* ar = a + r * aStride;
    float* cr = c + r * cStride;
    int i = 0;
    for (; i + C * kLanes <= cols; i += C * kLanes) productBlock<R, C>(ar, aStride, b + i, bStride, k, cr + i, cStride, accumulate);
    for (; i < cols; i += kLanes) productBlock<R, 1>(ar, aStride, b + i, bStride, k, cr + i, cStride, accumulate);
  };
  struct Block {
    enum { value = kRows };
  };
  struct One {
    enum { value = 1 };
  };
  int r = 0;
  for (; r + kRows <= m; r += kRows) columns(Block{}, r);
  for (; r < m; ++r) columns(One{}, r);
}

void scaleRow(float* x, int n, float factor) {
  eachBlock(n, [&](int64_t i, int m) INLINE_LAMBDA { storeUpTo(x + i, mul(loadUpTo(x + i, m), set1(factor)), m); });
}
void addScaled(float* out, const float* x, int n, float factor) {
  eachBlock(n, [&](int64_t i, int m) INLINE_LAMBDA { storeUpTo(out + i, fma(loadUpTo(x + i, m), set1(factor), loadUpTo(out + i, m)), m); });
}

}  // namespace
}  // namespace winnow::cpu
