// SPDX-License-Identifier: GPL-3.0-or-later
// KeyDiff (Park et al., 2025, arXiv 2504.15364): keys that point away from the mean direction of the head's keys stay. anchor = mean of
// k / |k|, score = -cos(k, anchor), over the keys that are cached: what was evicted no longer counts, as in the paper's prompts by blocks.
// Scores are in standard deviations of the head.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/cache/allocation.h"
#include "engine/cache/policies.h"

namespace winnow {
namespace {

class KeyDiff final : public KvPolicy {
 public:
  // The anchor's length turns every cosine alike, so it is left out.
  void score(const KvSlots& slots, const KvRequest&, std::span<float> scores) const override {
    const auto dim = static_cast<size_t>(slots.geometry.headDim);
    std::vector<double> anchor(dim), inverse(scores.size());
    for (size_t slot = 0; slot < scores.size(); ++slot) {
      const auto key = slots.keys.subspan(slot * dim, dim);
      double squares = 0;
      for (const float x : key) squares += double{x} * x;
      inverse[slot] = squares > 0 ? 1 / std::sqrt(squares) : 0;
      for (size_t c = 0; c < dim; ++c) anchor[c] += key[c] * inverse[slot];
    }
    for (size_t slot = 0; slot < scores.size(); ++slot) {
      const auto key = slots.keys.subspan(slot * dim, dim);
      double dot = 0;
      for (size_t c = 0; c < dim; ++c) dot += key[c] * anchor[c];
      scores[slot] = static_cast<float>(-dot * inverse[slot]);
    }
    standardize(scores);
  }
};

}  // namespace

std::unique_ptr<KvPolicy> makeKeyDiff() { return std::make_unique<KeyDiff>(); }

}  // namespace winnow
