// SPDX-License-Identifier: GPL-3.0-or-later
// A baseline to beat: the newest token and a uniform choice of the others. Every position has one Philox number per (layer, kv
// head) and the smallest stay, so that repeated evictions leave a uniform choice of all tokens, and runs repeat.
#include <algorithm>

#include "engine/cache/policies.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

class Random final : public KvPolicy {
 public:
  void select(const KvSlots& slots, const KvRequest& request, std::vector<int32_t>& kept) const override {
    const auto newest = static_cast<int32_t>(slots.positions.size()) - 1;
    std::vector<std::pair<uint64_t, int32_t>> order(static_cast<size_t>(newest));
    for (int32_t slot = 0; slot < newest; ++slot) {
      const auto draw = philox4x32({static_cast<uint32_t>(slots.positions[static_cast<size_t>(slot)]), static_cast<uint32_t>(slots.layer),
                                    static_cast<uint32_t>(slots.kvHead), 0},
                                   {0x6b762e72u, 0x616e646fu});
      order[static_cast<size_t>(slot)] = {uint64_t{draw[0]} << 32 | draw[1], slot};
    }
    const int32_t others = request.keep - 1;
    std::nth_element(order.begin(), order.begin() + others, order.end());
    kept.clear();
    for (int32_t i = 0; i < others; ++i) kept.push_back(order[static_cast<size_t>(i)].second);
    std::sort(kept.begin(), kept.end());
    kept.push_back(newest);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeRandom() { return std::make_unique<Random>(); }

}  // namespace winnow
