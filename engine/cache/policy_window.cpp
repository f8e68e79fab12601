// SPDX-License-Identifier: GPL-3.0-or-later
// The newest tokens, and the first ones when there are sinks: a sliding window without, StreamingLLM with them (Xiao et al., ICLR
// 2024). Survivors keep their original positions, so the trained context still bounds the text. Sinks are tokens of the text's
// start: once evicted they don't come back, and later tokens don't take their place.
#include <algorithm>

#include "engine/cache/policies.h"

namespace winnow {
namespace {

class Window final : public KvPolicy {
 public:
  void select(const KvSlots& slots, const KvRequest& request, std::vector<int32_t>& kept) const override {
    const auto begin = slots.positions.begin();
    const auto held = static_cast<int32_t>(std::lower_bound(begin, slots.positions.end(), request.sinks) - begin);
    const int32_t sinks = std::min(held, request.keep - 1), total = static_cast<int32_t>(slots.positions.size());
    kept.clear();
    for (int32_t slot = 0; slot < sinks; ++slot) kept.push_back(slot);
    for (int32_t slot = total - (request.keep - sinks); slot < total; ++slot) kept.push_back(slot);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeWindow() { return std::make_unique<Window>(); }

}  // namespace winnow
