// SPDX-License-Identifier: GPL-3.0-or-later
// The newest tokens, and for StreamingLLM the first ones as well (Xiao et al., ICLR 2024); the window alone has no sinks. Survivors keep
// their original positions, and the trained context bounds the text; with kv.positions=cache, as in the paper, they count from one held
// slot to the next (engine/cpu/turns.h), and it does not. Sinks are tokens of the text's start: once evicted they don't come back, and
// later tokens don't take their place.
#include "engine/cache/policies.h"

namespace winnow {
namespace {

class Window final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    for (size_t slot = 0; slot < scores.size(); ++slot) scores[slot] = slots.positions[slot] < request.sinks ? kAlways : static_cast<float>(slot);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeWindow() { return std::make_unique<Window>(); }

}  // namespace winnow
