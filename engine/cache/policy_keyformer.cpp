// SPDX-License-Identifier: GPL-3.0-or-later
// Keyformer (Adnan et al., MLSys 2024, arXiv 2403.09054, section 3.3): like H2O, but what is added up is the softmax of (x + z) / t, x the
// scores and z standard Gumbel noise, which makes up for the tokens that are gone; t rises from 1 to 2 as tokens come. Of the budget 30 %
// goes to the newest tokens. The paper adds every query; here, of the newest 128 since the policy last ran, at most 32 at even distances,
// each for as many as there are between them: all of them cost more than a third of a token. Noise is drawn by (seed, layer, query head,
// query, token): runs repeat.
#include <algorithm>
#include <array>
#include <vector>

#include "engine/cache/policies.h"
#include "engine/cache/query_rows.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

constexpr double kHottest = 2;

class Keyformer final : public KvPolicy {
 public:
  explicit Keyformer(const KeyformerSettings& settings) : settings_(settings) {}

  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    std::vector<float> weights(scores.size());
    const int fresh = slots.queries.fresh, every = std::max(1, (fresh + settings_.mostQueries - 1) / settings_.mostQueries);
    const float standsFor = static_cast<float>(fresh) / static_cast<float>(std::max(1, (fresh + every - 1) / every));
    eachQuery(slots, fresh, every, [&](const QueryScores& query) {
      const auto begin = static_cast<size_t>(query.begin), end = static_cast<size_t>(query.end);
      if (begin >= end) return;
      const double rise = settings_.rise * static_cast<double>(std::max<int64_t>(0, query.position + 1 - request.began));
      const auto colder = static_cast<float>(1 / std::max(settings_.temperature, std::min(settings_.temperature + rise, kHottest)));
      const std::span<float> seen = std::span(weights).subspan(begin, end - begin);
      std::copy_n(query.scores.begin() + query.begin, seen.size(), seen.begin());
      if (settings_.noise)
        perturb(seen, slots.positions.subspan(begin, end - begin), noiseKey(slots, request, query), colder);
      else
        scale(seen, colder);
      const float sum = exponentials(seen);
      addScaled(slots.carried.subspan(begin, end - begin), seen, standsFor / sum);
    });
    std::ranges::copy(slots.carried, scores.begin());
    const auto recent = static_cast<size_t>(settings_.recentShare * request.keep);
    std::ranges::fill(scores.last(std::clamp(recent, size_t{1}, scores.size())), kAlways);
  }

 private:
  static std::array<uint32_t, 2> noiseKey(const KvSlots& slots, const KvRequest& request, const QueryScores& query) {
    const auto head = static_cast<uint32_t>(slots.kvHead * slots.geometry.group + query.head);
    const auto draw = philox4x32({static_cast<uint32_t>(query.position), static_cast<uint32_t>(slots.layer), head, request.seed}, {0x6b762e6bu, 0x65796672u});
    return {draw[0], draw[1]};
  }

  KeyformerSettings settings_;
};

}  // namespace

std::unique_ptr<KvPolicy> makeKeyformerWith(const KeyformerSettings& settings) { return std::make_unique<Keyformer>(settings); }
std::unique_ptr<KvPolicy> makeKeyformer() { return makeKeyformerWith({}); }

}  // namespace winnow
