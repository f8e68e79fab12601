// SPDX-License-Identifier: GPL-3.0-or-later
// Scissorhands (Liu et al., NeurIPS 2023, arXiv 2305.17118, algorithm 2): what was of importance lately stays so. A token is counted down
// for each of the newest queries, and each query head, that gives it less than an even share of its attention; the least counted stay,
// of equals the newer, and the newest 10 are not counted at all. The paper looks back at up to 400 queries as they attended then and halves
// a full buffer; here at up to 64 over the tokens that are left, and kv.budget and kv.interval say how many go and how often.
#include <algorithm>
#include <vector>

#include "engine/cache/policies.h"
#include "engine/cache/query_rows.h"

namespace winnow {
namespace {

constexpr size_t kRecent = 10;

class Scissorhands final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest&, std::span<float> scores) const override {
    std::ranges::fill(scores, 0.0f);
    std::vector<float> shares(scores.size());
    eachQuery(slots, slots.queries.count, 1, [&](const QueryScores& query) {
      const auto seen = query.scores.subspan(static_cast<size_t>(query.begin), static_cast<size_t>(query.end - query.begin));
      if (seen.empty()) return;
      std::ranges::copy(seen, shares.begin());
      const float even = exponentials(std::span(shares).first(seen.size())) / static_cast<float>(seen.size());
      float* counts = scores.data() + query.begin;
      for (size_t i = 0; i < seen.size(); ++i) counts[i] -= shares[i] < even ? 1.0f : 0.0f;
    });
    std::ranges::fill(scores.last(std::min(kRecent, scores.size())), 0.0f);
    // Counts are whole: what is added orders equals only.
    for (size_t slot = 0; slot < scores.size(); ++slot) scores[slot] += static_cast<float>(slot) / static_cast<float>(scores.size());
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeScissorhands() { return std::make_unique<Scissorhands>(); }

}  // namespace winnow
