// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/align.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/share/dot.h"

namespace winnow {

HeadLikeness::HeadLikeness(const std::vector<LayerSharing>& sharing, int heads, ThreadPool& pool)
    : heads_(heads), pool_(pool), followed_(sharing.size(), 0), rows_(sharing.size()), sums_(sharing.size()), counts_(sharing.size(), 0) {
  for (size_t layer = 0; layer < sharing.size(); ++layer) {
    const int leader = sharing[layer].attnSource;
    leaders_.push_back(leader);
    if (leader == static_cast<int>(layer)) continue;
    followed_[static_cast<size_t>(leader)] = 1;
    sums_[layer].assign(static_cast<size_t>(heads) * static_cast<size_t>(heads), 0.0);
  }
}

void HeadLikeness::keep(const AttentionRows& rows, Rows& out) const {
  const auto count = int64_t{rows.heads} * rows.queries;
  out.values.resize(static_cast<size_t>(count * rows.columns));
  out.norms.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    float* to = out.values.data() + i * rows.columns;
    std::copy_n(rows.probabilities + i * rows.stride, rows.columns, to);
    out.norms[static_cast<size_t>(i)] = std::sqrt(dot(to, to, rows.first + i % rows.queries + 1));
  }
}

void HeadLikeness::take(int layer, const AttentionRows& rows) {
  CHECK(rows.heads == heads_ && rows.first + rows.queries <= rows.columns, layer, rows.heads, rows.columns);
  const auto at = static_cast<size_t>(layer);
  if (followed_[at]) keep(rows, rows_[at]);
  const int leader = leaders_[at];
  if (leader == layer) return;
  Rows own;
  keep(rows, own);
  const Rows& other = rows_[static_cast<size_t>(leader)];
  const int first = static_cast<int>(std::max<int64_t>(1 - rows.first, 0));  // a query that sees one token alone says nothing
  pool_.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(heads_, 1, thread, threads);
    for (int64_t head = range.begin; head < range.end; ++head)
      for (int64_t from = 0; from < heads_; ++from) {
        double sum = 0;
        for (int query = first; query < rows.queries; ++query) {
          const int64_t a = head * rows.queries + query, b = from * rows.queries + query;
          sum += dot(own.values.data() + a * rows.columns, other.values.data() + b * rows.columns, rows.first + query + 1) /
                 (own.norms[static_cast<size_t>(a)] * other.norms[static_cast<size_t>(b)]);
        }
        sums_[at][static_cast<size_t>(head * heads_ + from)] += sum;
      }
  });
  counts_[at] += std::max(rows.queries - first, 0);
}

double HeadLikeness::at(int layer, int head, int leaders) const {
  const auto of = static_cast<size_t>(layer);
  CHECK(!sums_[of].empty(), layer);
  return counts_[of] > 0 ? sums_[of][static_cast<size_t>(head * heads_ + leaders)] / static_cast<double>(counts_[of]) : 0;
}

std::vector<int> HeadLikeness::heads(int layer) const {
  std::vector<int> out;
  for (int head = 0; head < heads_; ++head) {
    int best = head;
    for (int from = 0; from < heads_; ++from)
      if (at(layer, head, from) > at(layer, head, best)) best = from;
    out.push_back(best);
  }
  return out;
}

std::vector<float> rowsOfHeads(const float* probabilities, int64_t stride, int queries, std::span<const int> heads) {
  const int64_t floats = stride * queries;
  std::vector<float> out(heads.size() * static_cast<size_t>(floats));
  for (size_t head = 0; head < heads.size(); ++head) std::copy_n(probabilities + heads[head] * floats, floats, out.data() + static_cast<int64_t>(head) * floats);
  return out;
}

}  // namespace winnow
