// SPDX-License-Identifier: GPL-3.0-or-later
// TOVA (Oren et al., EMNLP 2024, arXiv 2401.06104): what the newest query attends to stays, the mean of all query heads of a layer
// deciding for the layer. No sinks, no window: where a model needs them they stay by themselves.
#include <algorithm>

#include "engine/cache/policies.h"

namespace winnow {
namespace {

class Tova final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest&, std::span<float> scores) const override { std::ranges::copy(slots.columnSums, scores.begin()); }
};

}  // namespace

std::unique_ptr<KvPolicy> makeTova() { return std::make_unique<Tova>(); }

}  // namespace winnow
