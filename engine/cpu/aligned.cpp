// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/aligned.h"

#include <algorithm>
#include <climits>
#include <cmath>

#include "engine/cache/planes.h"

namespace winnow::cpu {

void queryExponents(const float* q, int group, int headDim, const KeyTurns& turns, int* out) {
  std::fill_n(out, headDim, INT_MIN / 2);
  for (int g = 0; g < group; ++g, q += headDim) {
    double all = 0;
    for (int c = 0; c < headDim; ++c) all += static_cast<double>(q[c]) * q[c];
    for (int c = 0; c < headDim; ++c) {
      float most = q[c];
      if (turns.frequencies && turns.hadamard)
        most = static_cast<float>(std::sqrt(all));
      else if (turns.frequencies && c < 2 * turns.half)
        most = std::hypot(q[c], q[c < turns.half ? c + turns.half : c - turns.half]);
      out[c] = std::max(out[c], exponentOf(most));
    }
  }
}

void keyBits(const PageShape& shape, const void* page, const int* queryExponents, int step, uint8_t* out) {
  const uint8_t* largest = static_cast<const uint8_t*>(page) + PlaneRuns(shape.tokens, shape.headDim, true).largest();
  int top = INT_MIN;
  for (int c = 0; c < shape.headDim; ++c) top = std::max(top, queryExponents[c] + largest[c]);
  for (int c = 0; c < shape.headDim; ++c) out[c] = static_cast<uint8_t>(alignedBits(top - queryExponents[c] - largest[c], step));
}

void valueBits(const PageShape& shape, const ValueSlots& slots, const float* p, int64_t stride, int group, int step, const ValueScratch& scratch,
               uint8_t* out) {
  const int n = shape.headDim, count = slots.end - slots.begin;
  const PlaneRuns at(shape.tokens, n, false);
  std::fill_n(scratch.largest, n, uint8_t{1});
  for (int page = slots.begin / shape.tokens; page * shape.tokens < slots.end; ++page) {
    if (slots.forms[page].planes == Planes::none) continue;  // its slots are read whole
    const uint8_t* largest = reinterpret_cast<const uint8_t*>(slots.pages[page]) + at.largest();
    for (int c = 0; c < n; ++c) scratch.largest[c] = std::max(scratch.largest[c], largest[c]);
  }
  const auto addProbe = [&](int slot, float weight) {
    const int page = slot / shape.tokens, own = slot % shape.tokens;
    const uint16_t* rows = slots.pages[page] + int64_t{own} * n;
    const uint8_t* high = reinterpret_cast<const uint8_t*>(slots.pages[page]) + int64_t{own} * n;
    if (slots.forms[page].planes == Planes::none)
      for (int c = 0; c < n; ++c) scratch.output[c] += weight * magnitudeOf(rows[c] >> 8);
    else
      for (int c = 0; c < n; ++c) scratch.output[c] += weight * magnitudeOf(high[c]);
  };
  std::fill_n(out, count, uint8_t{8});
  for (int g = 0; g < group; ++g, p += stride) {
    std::fill_n(scratch.output, n, 0.0f);
    for (int first = 0; first < kProbes && first < count; ++first) {
      int heaviest = first;
      for (int i = first; i < count; i += kProbes)
        if (p[i] > p[heaviest]) heaviest = i;
      addProbe(slots.begin + heaviest, p[heaviest]);
    }
    int reaches = INT_MAX;  // the exponent of a weight whose term is as large as the output, at some channel
    for (int c = 0; c < n; ++c) reaches = std::min(reaches, exponentOf(scratch.output[c]) - 1 + kExponentBias - scratch.largest[c]);
    for (int i = 0; i < count; ++i) out[i] = std::max(out[i], static_cast<uint8_t>(alignedBits(reaches - exponentOf(p[i]), step)));
  }
}

}  // namespace winnow::cpu
