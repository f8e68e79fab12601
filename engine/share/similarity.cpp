// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/similarity.h"

#include <algorithm>
#include <cmath>

#include "engine/cache/registry.h"
#include "engine/core/check.h"
#include "engine/share/dot.h"

namespace winnow {
namespace {

constexpr double kNothing = 1e-12;  // squared norm of a row that rests on the first token alone

}  // namespace

const char* similarityName(SimilarityOf which) {
  constexpr const char* names[] = {"rows", "no-sink", "windows", "head-mean"};
  return names[static_cast<size_t>(which)];
}

AttentionSimilarity::AttentionSimilarity(int layers)
    : layers_(layers), rows_(static_cast<size_t>(layers)), means_(rows_.size()), squares_(rows_.size()), norms_(rows_.size()),
      pairs_(rows_.size() * rows_.size()) {}

const float* AttentionSimilarity::row(int layer, int head, int query) const {
  return rows_[static_cast<size_t>(layer)].data() + (int64_t{head} * queries_ + query) * columns_;
}

void AttentionSimilarity::take(int layer, const AttentionRows& rows) {
  CHECK(layer >= 0 && layer < layers_ && rows.first + rows.queries <= rows.columns, layer, rows.first, rows.columns);
  heads_ = rows.heads;
  queries_ = rows.queries;
  columns_ = rows.columns;
  auto& held = rows_[static_cast<size_t>(layer)];
  held.resize(static_cast<size_t>(heads_) * static_cast<size_t>(queries_) * static_cast<size_t>(columns_));
  for (int64_t i = 0; i < int64_t{heads_} * queries_; ++i)
    std::copy_n(rows.probabilities + i * rows.stride, columns_, held.data() + i * columns_);
  if (layer + 1 == layers_) compare(rows.first, rows.queries);
}

void AttentionSimilarity::compare(int64_t first, int queries) {
  for (auto& squares : squares_) squares.resize(static_cast<size_t>(heads_));
  for (Pair& p : pairs_) p.dots.resize(static_cast<size_t>(heads_));
  for (int query = 0; query < queries; ++query) {
    const int64_t seen = first + query + 1;
    for (auto& mean : means_) mean.assign(static_cast<size_t>(seen), 0.0f);
    for (int head = 0; head < heads_; ++head) compareRow(head, seen, query);
    if (seen < 2) continue;
    const auto product = [&](int a, int b) { return dot(means_[static_cast<size_t>(a)].data(), means_[static_cast<size_t>(b)].data(), seen); };
    for (int layer = 0; layer < layers_; ++layer) norms_[static_cast<size_t>(layer)] = product(layer, layer);
    for (int a = 0; a < layers_; ++a)
      for (int b = a + 1; b < layers_; ++b)
        pair(a, b).headMean.add(product(a, b) / std::sqrt(norms_[static_cast<size_t>(a)] * norms_[static_cast<size_t>(b)]));
  }
  tokens_ += queries;
}

void AttentionSimilarity::compareRow(int head, int64_t seen, int query) {
  for (int layer = 0; layer < layers_; ++layer) {
    const float* values = row(layer, head, query);
    norms_[static_cast<size_t>(layer)] = dot(values, values, seen);
    squares_[static_cast<size_t>(layer)][static_cast<size_t>(head)] += norms_[static_cast<size_t>(layer)];
    for (int64_t c = 0; c < seen; ++c) means_[static_cast<size_t>(layer)][static_cast<size_t>(c)] += values[c];
  }
  for (int a = 0; a < layers_; ++a)
    for (int b = a + 1; b < layers_; ++b) {
      const float *one = row(a, head, query), *other = row(b, head, query);
      const double product = dot(one, other, seen), normA = norms_[static_cast<size_t>(a)], normB = norms_[static_cast<size_t>(b)];
      Pair& p = pair(a, b);
      p.dots[static_cast<size_t>(head)] += product;
      if (seen >= 2) p.rows.add(product / std::sqrt(normA * normB));
      if (seen < 3) continue;
      const double restA = dot(one + 1, one + 1, seen - 1), restB = dot(other + 1, other + 1, seen - 1);
      if (restA > kNothing && restB > kNothing) p.noSink.add(dot(one + 1, other + 1, seen - 1) / std::sqrt(restA * restB));
    }
}

void AttentionSimilarity::endWindow() {
  for (int a = 0; a < layers_; ++a)
    for (int b = a + 1; b < layers_; ++b) {
      Pair& p = pair(a, b);
      for (size_t head = 0; head < p.dots.size(); ++head)
        p.windows.add(p.dots[head] / std::sqrt(squares_[static_cast<size_t>(a)][head] * squares_[static_cast<size_t>(b)][head]));
      p.dots.clear();
    }
  for (auto& squares : squares_) squares.clear();
}

SimilarityMap AttentionSimilarity::map() const {
  SimilarityMap out;
  out.layers = layers_;
  out.tokens = tokens_;
  const Mean Pair::*const means[] = {&Pair::rows, &Pair::noSink, &Pair::windows, &Pair::headMean};
  for (size_t which = 0; which < std::size(means); ++which) {
    auto& values = out.values[which];
    values.assign(pairs_.size(), 1.0);
    for (size_t a = 0; a < rows_.size(); ++a)
      for (size_t b = a + 1; b < rows_.size(); ++b) {
        const Mean& mean = pairs_[a * rows_.size() + b].*means[which];
        values[a * rows_.size() + b] = values[b * rows_.size() + a] = mean.count > 0 ? mean.sum / static_cast<double>(mean.count) : 0;
      }
  }
  return out;
}

Result<SimilarityMap> measureSimilarity(Session& session, std::span<const int32_t> ids, int window, const Progress& progress) {
  if (ids.size() < 4)
    return Error{ErrorCode::badInput, "The text has " + std::to_string(ids.size()) + " tokens; comparing attention takes at least 4.",
                 "Choose a longer text."};
  CHECK(window >= 2 && window <= session.context(), window, session.context());
  const Plan& plan = session.plan();
  const int layers = static_cast<int>(plan.sharing.size());
  for (int layer = 0; layer < layers; ++layer)
    if (plan.follower(layer) || !plan.attends(layer))
      return Error{ErrorCode::badInput, "Layer " + std::to_string(layer) + " computes no attention of its own, so there is nothing to compare.",
                   "Set share.method=none and prune.layers=0."};
  const struct Observed {  // nobody looks when this ends, whichever way
    Session& session;
    ~Observed() {
      session.observeAttention(nullptr);
      session.reset();
    }
  } observed{session};
  if (const std::string policy = session.effective()->config.text("kv.policy"); policy != "full" && !kvPolicy(policy).selects)
    return Error{ErrorCode::badInput, "The cache evicts (kv.policy), so the attention over the whole text is not there to compare.", "Set kv.policy=full, and another share.method than mix."};
  AttentionSimilarity similarity(layers);
  session.observeAttention(&similarity);
  for (size_t first = 0; first < ids.size(); first += static_cast<size_t>(window)) {
    const auto piece = ids.subspan(first, std::min(ids.size() - first, static_cast<size_t>(window)));
    if (piece.size() < 2 && first > 0) break;
    session.reset();
    if (const Status fed = session.prefill(piece, progress); !fed) return fed.error();
    similarity.endWindow();
    progress(static_cast<double>(first + piece.size()) / static_cast<double>(ids.size()), "comparing attention");
  }
  return similarity.map();
}

std::vector<LayerSpan> similarSpans(const SimilarityMap& map, SimilarityOf which, int first, int last, double threshold, int most) {
  std::vector<LayerSpan> spans;
  for (int leader = first; leader < map.layers - last;) {
    int next = leader + 1;
    while (next < map.layers - last && next - leader < most && map.at(which, leader, next) >= threshold) ++next;
    if (next - leader > 1) spans.push_back({leader, next - 1});
    leader = next;
  }
  return spans;
}

}  // namespace winnow
