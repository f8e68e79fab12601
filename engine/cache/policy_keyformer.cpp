// SPDX-License-Identifier: GPL-3.0-or-later
// Keyformer (Adnan et al., MLSys 2024, arXiv 2403.09054, section 3.3): like H2O, but what is added up is the softmax of (x + z) / t, x the
// scores and z standard Gumbel noise, which makes up for the tokens that are gone; t rises from 1 to 2 as tokens come. Of the budget 30 %
// goes to the newest tokens. Every query since the policy last ran is added once, of a prompt the newest 128 of each batch; the paper
// adds a prompt's queries all. Noise is Philox of (seed, layer, query head, query, token): runs repeat.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "engine/cache/policies.h"
#include "engine/cache/query_rows.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

constexpr double kHottest = 2;
constexpr int kQuantileBits = 16;  // of the noise: more would not be seen among fewer tokens than 2^16

// Gumbel(0, 1) where its distribution reaches (i + 1/2) / 2^kQuantileBits.
const std::vector<float>& gumbelQuantiles() {
  static const std::vector<float> quantiles = [] {
    std::vector<float> out(size_t{1} << kQuantileBits);
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(-std::log(-std::log((static_cast<double>(i) + 0.5) / static_cast<double>(out.size()))));
    return out;
  }();
  return quantiles;
}

class Keyformer final : public KvPolicy {
 public:
  explicit Keyformer(const KeyformerSettings& settings) : settings_(settings) {}

  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    std::vector<float> weights(scores.size());
    eachQuery(slots, slots.queries.fresh, [&](const QueryScores& query) {
      const auto begin = static_cast<size_t>(query.begin), end = static_cast<size_t>(query.end);
      if (begin >= end) return;
      const double rise = settings_.rise * static_cast<double>(std::max<int64_t>(0, query.position + 1 - request.began));
      const auto colder = static_cast<float>(1 / std::max(settings_.temperature, std::min(settings_.temperature + rise, kHottest)));
      const std::span<float> seen = std::span(weights).subspan(begin, end - begin);
      std::copy_n(query.scores.begin() + query.begin, seen.size(), seen.begin());
      if (settings_.noise) addNoise(slots, request, query, seen);
      for (float& x : seen) x *= colder;
      const float share = 1 / exponentials(seen);
      for (size_t i = 0; i < seen.size(); ++i) slots.carried[begin + i] += seen[i] * share;
    });
    std::ranges::copy(slots.carried, scores.begin());
    const auto recent = static_cast<size_t>(settings_.recentShare * request.keep);
    std::ranges::fill(scores.last(std::clamp(recent, size_t{1}, scores.size())), kAlways);
  }

 private:
  // Eight neighbours in the text share a draw of Philox, 16 bits each.
  static void addNoise(const KvSlots& slots, const KvRequest& request, const QueryScores& query, std::span<float> seen) {
    const std::vector<float>& quantiles = gumbelQuantiles();
    const auto head = static_cast<uint32_t>(slots.kvHead * slots.geometry.group + query.head);
    std::array<uint32_t, 4> draw{};
    for (size_t i = 0; i < seen.size(); ++i) {
      const auto position = static_cast<uint32_t>(slots.positions[static_cast<size_t>(query.begin) + i]);
      if (i == 0 || position / 8 != static_cast<uint32_t>(slots.positions[static_cast<size_t>(query.begin) + i - 1]) / 8)
        draw = philox4x32({position / 8, static_cast<uint32_t>(query.position), static_cast<uint32_t>(slots.layer) << 16 | head, request.seed}, {0x6b762e6bu, 0x65796672u});
      seen[i] += quantiles[draw[position % 4] >> (position % 8 / 4 * kQuantileBits) & 0xffff];
    }
  }

  KeyformerSettings settings_;
};

}  // namespace

std::unique_ptr<KvPolicy> makeKeyformerWith(const KeyformerSettings& settings) { return std::make_unique<Keyformer>(settings); }
std::unique_ptr<KvPolicy> makeKeyformer() { return makeKeyformerWith({}); }

}  // namespace winnow
