// SPDX-License-Identifier: GPL-3.0-or-later
// A baseline to beat: the newest token and a uniform choice of the others. Every position has one Philox number per (layer, kv
// head, seed) and the smallest stay, so that repeated evictions leave a uniform choice of all tokens, and runs repeat.
#include "engine/cache/policies.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

class Random final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    for (size_t slot = 0; slot < scores.size(); ++slot) {
      const auto draw = philox4x32({static_cast<uint32_t>(slots.positions[slot]), static_cast<uint32_t>(slots.layer), static_cast<uint32_t>(slots.kvHead), request.seed},
                                   {0x6b762e72u, 0x616e646fu});
      scores[slot] = -static_cast<float>(draw[0] >> 8);  // exact
    }
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeRandom() { return std::make_unique<Random>(); }

}  // namespace winnow
