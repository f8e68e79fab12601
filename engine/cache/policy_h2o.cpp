// SPDX-License-Identifier: GPL-3.0-or-later
// H2O (Zhang et al., NeurIPS 2023): half of the budget goes to the newest tokens, half to those that received the most attention
// so far. The mass of a group's query heads is summed; ties go to the earlier token.
#include <algorithm>

#include "engine/cache/policies.h"
#include "engine/core/check.h"

namespace winnow {
namespace {

class H2o final : public KvPolicy {
 public:
  void select(const KvSlots& slots, const KvRequest& request, std::vector<int32_t>& kept) const override {
    const auto total = static_cast<int32_t>(slots.positions.size());
    CHECK(slots.columnSums.size() == slots.positions.size(), slots.columnSums.size(), total);
    const int32_t recent = (request.keep + 1) / 2, heavy = request.keep - recent, older = total - recent;
    kept.clear();
    for (int32_t slot = 0; slot < older; ++slot) kept.push_back(slot);
    const auto heavier = [&](int32_t a, int32_t b) {
      const float x = slots.columnSums[static_cast<size_t>(a)], y = slots.columnSums[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    std::nth_element(kept.begin(), kept.begin() + heavy, kept.end(), heavier);
    kept.resize(static_cast<size_t>(heavy));
    std::sort(kept.begin(), kept.end());
    for (int32_t slot = older; slot < total; ++slot) kept.push_back(slot);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeH2o() { return std::make_unique<H2o>(); }

}  // namespace winnow
