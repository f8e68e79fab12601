// SPDX-License-Identifier: GPL-3.0-or-later
// Nothing is evicted. Also the budget arithmetic that all policies share.
#include <algorithm>
#include <cmath>

#include "engine/cache/policies.h"

namespace winnow {

int64_t keptTokens(double budget, int64_t fed, int sinks) {
  const double share = budget <= 1.0 ? std::floor(budget * static_cast<double>(fed)) : std::floor(budget);
  const int64_t wanted = std::max(static_cast<int64_t>(std::min(share, static_cast<double>(fed))), int64_t{sinks} + 1);
  return std::min(wanted, fed);
}

namespace {
class Full final : public KvPolicy {
 public:
  void score(const KvSlots&, const KvRequest&, std::span<float> scores) const override { std::ranges::fill(scores, kAlways); }
};
}  // namespace

std::unique_ptr<KvPolicy> makeFull() { return std::make_unique<Full>(); }

}  // namespace winnow
