// SPDX-License-Identifier: GPL-3.0-or-later
// SnapKV (Li et al., NeurIPS 2024, arXiv 2404.14469): the newest queries vote for what came before them, votes are pooled over
// neighbours (mean of 5, zeros beyond the ends) so that clusters stay together, and the window itself stays. Pooling is over slots: of a
// cache that lost some, over those that are left.
#include <algorithm>

#include "engine/cache/policies.h"

namespace winnow {
namespace {

constexpr int kPool = 5;

class SnapKv final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    const size_t window = std::min(scores.size(), static_cast<size_t>(request.window));
    const auto older = static_cast<int>(scores.size() - window);
    for (int slot = 0; slot < older; ++slot) {
      float sum = 0;
      for (int i = std::max(0, slot - kPool / 2); i <= std::min(older - 1, slot + kPool / 2); ++i) sum += slots.columnSums[static_cast<size_t>(i)];
      scores[static_cast<size_t>(slot)] = sum / kPool;
    }
    std::ranges::fill(scores.last(window), kAlways);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeSnapKv() { return std::make_unique<SnapKv>(); }

}  // namespace winnow
