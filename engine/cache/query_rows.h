// SPDX-License-Identifier: GPL-3.0-or-later
// Products of a head's cached keys with queries, for policies that read both. The arithmetic is in engine/cpu/query_rows.cpp.
#pragma once
#include <array>
#include <functional>
#include <span>

#include "engine/cache/policy.h"

namespace winnow {

constexpr int kProductRows = 16;  // most rows of products()

// out[row][slot] = scale * row . key over the channels [from, headDim), summed in f32 in their order.
void products(std::span<const float> keys /* [slots, headDim] */, int headDim, int from, std::span<const float* const> rows /* up to kProductRows of [headDim] */,
              float scale, float* out /* [rows, slots] */);

// x = (x + z) * factor, z standard Gumbel noise that the key and the position draw, to 2^-20 of max(1, |z|).
void perturb(std::span<float> x, std::span<const int32_t> positions, const std::array<uint32_t, 2>& key, float factor);
void scale(std::span<float> x, float factor);
void addScaled(std::span<float> out, std::span<const float> x, float factor);  // out += x * factor

// x becomes exp(x - its largest), to 2^-22 of it and exactly 1 at the largest; returns their sum, added in f32.
float exponentials(std::span<float> x);

// One query of one query head against the slots it sees.
struct QueryScores {
  int head = 0;  // of the group
  int64_t position = 0;
  int begin = 0, end = 0;         // the slots
  std::span<const float> scores;  // [slots] q . k / sqrt(headDim)
};
// Of the newest `count` of slots.queries the newest and every `every`-th before it, the oldest first, a query's heads one after the other.
void eachQuery(const KvSlots& slots, int count, int every, const std::function<void(const QueryScores&)>& visit);

}  // namespace winnow
