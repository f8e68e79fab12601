// SPDX-License-Identifier: GPL-3.0-or-later
// H2O (Zhang et al., NeurIPS 2023): half of the budget goes to the newest tokens, half to those that received the most attention
// so far. The mass of a group's query heads is summed; ties go to the earlier token.
#include <algorithm>

#include "engine/cache/policies.h"

namespace winnow {
namespace {

class H2o final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    std::ranges::copy(slots.columnSums, scores.begin());
    const auto recent = std::min(scores.size(), static_cast<size_t>((request.keep + 1) / 2));
    std::ranges::fill(scores.last(recent), kAlways);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeH2o() { return std::make_unique<H2o>(); }

}  // namespace winnow
