// SPDX-License-Identifier: GPL-3.0-or-later
// Keys of small norm receive much attention (Devoto et al., EMNLP 2024, arXiv 2406.11430, section 3): those stay. The first tokens, whose
// keys are unlike the others in some models, are protected by kv.sinks. The paper leaves its first two layers whole; here every layer
// keeps the budget. Norms of different heads have no common scale: scores are in standard deviations of the head.
#include <algorithm>
#include <cmath>

#include "engine/cache/allocation.h"
#include "engine/cache/policies.h"

namespace winnow {
namespace {

class Knorm final : public KvPolicy {
 public:
  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    const auto dim = static_cast<size_t>(slots.geometry.headDim);
    for (size_t slot = 0; slot < scores.size(); ++slot) {
      double squares = 0;
      for (const float x : slots.keys.subspan(slot * dim, dim)) squares += double{x} * x;
      scores[slot] = slots.positions[slot] < request.sinks ? kAlways : static_cast<float>(-std::sqrt(squares));
    }
    standardize(scores);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeKnorm() { return std::make_unique<Knorm>(); }

}  // namespace winnow
