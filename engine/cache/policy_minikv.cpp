// SPDX-License-Identifier: GPL-3.0-or-later
// MiniKV (Sharma et al., ACL Findings 2025, arXiv 2411.18077, section 3): which tokens of a prompt matter hardly changes while an answer is
// generated, so it is chosen once, when the prompt has ended: half of the budget for those that received the most attention of the whole
// prompt, half for the newest. Early layers keep more heavy hitters than late ones (7 to 1 of the average), all as many of the newest. The
// other half of the method is 2-bit codes, keys per channel: kv.k_bits, kv.v_bits, kv.quantizer. A group's query heads are summed; the
// prompt's pages stay 16 bit until it has ended.
#include <algorithm>

#include "engine/cache/policies.h"

namespace winnow {
namespace {

class MiniKv final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    std::ranges::copy(slots.columnSums, scores.begin());
    std::ranges::fill(scores.last(std::min(scores.size(), static_cast<size_t>(request.window))), kAlways);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeMiniKv() { return std::make_unique<MiniKv>(); }

}  // namespace winnow
