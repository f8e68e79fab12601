// SPDX-License-Identifier: GPL-3.0-or-later
// Keyformer (Adnan et al., MLSys 2024, arXiv 2403.09054, section 3.3): like H2O, but what is added up is the softmax of (x + z) / t, x the
// scores and z standard Gumbel noise, which makes up for the tokens that are gone; t rises from 1 to 2 as tokens come. Of the budget 30 %
// goes to the newest tokens. Every query since the policy last ran is added once, of a prompt the newest 128 of each batch; the paper
// adds a prompt's queries all. Noise is Philox of (seed, layer, query head, query, token): runs repeat.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/cache/policies.h"
#include "engine/cache/query_rows.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

constexpr double kHottest = 2;

double gumbel(uint32_t draw) { return -std::log(-std::log((static_cast<double>(draw) + 0.5) * 0x1p-32)); }

class Keyformer final : public KvPolicy {
 public:
  explicit Keyformer(const KeyformerSettings& settings) : settings_(settings) {}

  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    std::vector<double> weights(scores.size());
    eachQuery(slots, slots.queries.fresh, [&](const QueryScores& query) {
      const auto begin = static_cast<size_t>(query.begin), end = static_cast<size_t>(query.end);
      if (begin >= end) return;
      const double rise = settings_.rise * static_cast<double>(std::max<int64_t>(0, query.position + 1 - request.began));
      const double temperature = std::max(settings_.temperature, std::min(settings_.temperature + rise, kHottest));
      for (size_t slot = begin; slot < end; ++slot)
        weights[slot] = (double{query.scores[slot]} + (settings_.noise ? noise(slots, request, query, slot) : 0)) / temperature;
      const double largest = *std::max_element(weights.begin() + query.begin, weights.begin() + query.end);
      double sum = 0;
      for (size_t slot = begin; slot < end; ++slot) sum += weights[slot] = std::exp(weights[slot] - largest);
      for (size_t slot = begin; slot < end; ++slot) slots.carried[slot] += static_cast<float>(weights[slot] / sum);
    });
    std::ranges::copy(slots.carried, scores.begin());
    const auto recent = static_cast<size_t>(settings_.recentShare * request.keep);
    std::ranges::fill(scores.last(std::clamp(recent, size_t{1}, scores.size())), kAlways);
  }

 private:
  static double noise(const KvSlots& slots, const KvRequest& request, const QueryScores& query, size_t slot) {
    const auto head = static_cast<uint32_t>(slots.kvHead * slots.geometry.group + query.head);
    const auto draw = philox4x32({static_cast<uint32_t>(slots.positions[slot]), static_cast<uint32_t>(query.position),
                                  static_cast<uint32_t>(slots.layer) << 16 | head, request.seed},
                                 {0x6b762e6bu, 0x65796672u});
    return gumbel(draw[0]);
  }

  KeyformerSettings settings_;
};

}  // namespace

std::unique_ptr<KvPolicy> makeKeyformerWith(const KeyformerSettings& settings) { return std::make_unique<Keyformer>(settings); }
std::unique_ptr<KvPolicy> makeKeyformer() { return makeKeyformerWith({}); }

}  // namespace winnow
