// SPDX-License-Identifier: GPL-3.0-or-later
// An eviction policy says how much each slot is worth. One policy is one file, a line in policies.h and a line in registry.cpp; who stays
// follows from the scores and the budget of each head (engine/cache/allocation.h).
#pragma once
#include <cstdint>
#include <limits>
#include <span>

namespace winnow {

// One (layer, kv head) as a policy sees it. Slots are in order of original position.
struct KvSlots {
  int layer = 0, kvHead = 0;
  std::span<const int32_t> positions;  // [slots] original positions, ascending
  std::span<const float> columnSums;   // [slots] attention mass received, summed over the queries that the policy observes and the group's
                                       // query heads; empty for a policy that observes none
};

struct KvRequest {
  int keep = 0;    // slots a head keeps on average, >= 1
  int sinks = 0;   // first tokens that stay where the policy's usesSinks
  int window = 1;  // newest queries that were observed, for a policy that observes those
  uint32_t seed = 0;  // of a policy that draws
};

class KvPolicy {
 public:
  virtual ~KvPolicy() = default;
  // Writes the worth of each slot: the higher stay, of equals the earlier; kAlways stays before any other. Whatever it says, the newest
  // slot stays. Deterministic, thread-safe.
  static constexpr float kAlways = std::numeric_limits<float>::infinity();
  virtual void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const = 0;
};

// kv.budget as slots to keep after `fed` tokens: up to 1 a share (rounded down), from 2 on tokens; never fewer than the sinks and
// one, never more than `fed`.
int64_t keptTokens(double budget, int64_t fed, int sinks);

}  // namespace winnow
