// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/query_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/check.h"

namespace winnow {

// Rows side by side: a key's value meets all of them at once.
void products(std::span<const float> keys, int headDim, std::span<const float* const> rows, float scale, float* out) {
  CHECK(rows.size() <= kProductRows && headDim > 0 && keys.size() % static_cast<size_t>(headDim) == 0, rows.size(), headDim, keys.size());
  const size_t dim = static_cast<size_t>(headDim), slots = keys.size() / dim;
  std::vector<float> turned(dim * kProductRows);  // [headDim, kProductRows]
  for (size_t row = 0; row < rows.size(); ++row)
    for (size_t c = 0; c < dim; ++c) turned[c * kProductRows + row] = rows[row][c];
  for (size_t slot = 0; slot < slots; ++slot) {
    const float* key = keys.data() + slot * dim;
    float sums[kProductRows] = {};
    for (size_t c = 0; c < dim; ++c)
      for (size_t row = 0; row < kProductRows; ++row) sums[row] += key[c] * turned[c * kProductRows + row];
    for (size_t row = 0; row < rows.size(); ++row) out[row * slots + slot] = sums[row] * scale;
  }
}

void eachQuery(const KvSlots& slots, int count, const std::function<void(const QueryScores&)>& visit) {
  const KvQueries& queries = slots.queries;
  const HeadGeometry& geometry = slots.geometry;
  CHECK(count <= queries.count, count, queries.count);
  const size_t held = slots.positions.size();
  const int group = geometry.group, rows = count * group;
  const float scale = 1.0f / std::sqrt(static_cast<float>(geometry.headDim));
  std::vector<float> scores(kProductRows * held);
  const auto firstAfter = [&](int64_t position) {
    return static_cast<int>(std::upper_bound(slots.positions.begin(), slots.positions.end(), position) - slots.positions.begin());
  };
  for (int first = 0; first < rows; first += kProductRows) {
    std::vector<const float*> block;
    for (int row = first; row < std::min(rows, first + kProductRows); ++row)
      block.push_back(queries.rows + (queries.count - count + row / group) * queries.stride + int64_t{row % group} * geometry.headDim);
    products(slots.keys, geometry.headDim, block, scale, scores.data());
    for (size_t i = 0; i < block.size(); ++i) {
      const int row = first + static_cast<int>(i);
      const int64_t position = queries.first + queries.count - count + row / group;
      const int begin = geometry.slidingWindow > 0 ? firstAfter(position - geometry.slidingWindow) : 0;
      visit({row % group, position, begin, firstAfter(position), std::span(scores).subspan(i * held, held)});
    }
  }
}

}  // namespace winnow
