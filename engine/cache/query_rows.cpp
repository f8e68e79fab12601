// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/query_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/check.h"

namespace winnow {

void eachQuery(const KvSlots& slots, int count, int every, const std::function<void(const QueryScores&)>& visit) {
  const KvQueries& queries = slots.queries;
  const HeadGeometry& geometry = slots.geometry;
  CHECK(count <= queries.count && every >= 1, count, queries.count, every);
  const size_t held = slots.positions.size();
  const int group = geometry.group, visited = (count + every - 1) / every, rows = visited * group;
  const auto queryOf = [&](int row) { return queries.count - 1 - (visited - 1 - row / group) * every; };
  const float scale = 1.0f / std::sqrt(static_cast<float>(geometry.headDim));
  std::vector<float> scores(kProductRows * held);
  const auto firstAfter = [&](int64_t position) {
    return static_cast<int>(std::upper_bound(slots.positions.begin(), slots.positions.end(), position) - slots.positions.begin());
  };
  for (int first = 0; first < rows; first += kProductRows) {
    std::vector<const float*> block;
    for (int row = first; row < std::min(rows, first + kProductRows); ++row)
      block.push_back(queries.rows + queryOf(row) * queries.stride + int64_t{row % group} * geometry.headDim);
    products(slots.keys, geometry.headDim, 0, block, scale, scores.data());
    for (size_t i = 0; i < block.size(); ++i) {
      const int row = first + static_cast<int>(i);
      const int64_t position = queries.first + queryOf(row);
      const int begin = geometry.slidingWindow > 0 ? firstAfter(position - geometry.slidingWindow) : 0;
      visit({row % group, position, begin, firstAfter(position), std::span(scores).subspan(i * held, held)});
    }
  }
}

}  // namespace winnow
