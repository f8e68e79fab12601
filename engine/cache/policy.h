// SPDX-License-Identifier: GPL-3.0-or-later
// An eviction policy names the slots that stay. One policy is one file, a line in policies.h and a line in registry.cpp.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace winnow {

// One (layer, kv head) as a policy sees it. Slots are in order of original position.
struct KvSlots {
  int layer = 0, kvHead = 0;
  std::span<const int32_t> positions;  // [slots] original positions, ascending
  std::span<const float> columnSums;   // [slots] attention mass received, summed over queries and the group's query heads; empty
                                       // unless the policy's needsColumnSums
};

// How much may stay. keep < slots; the newest slot always stays.
struct KvRequest {
  int keep = 0;   // slots, >= 1
  int sinks = 0;  // first tokens that stay where the policy's usesSinks
};

class KvPolicy {
 public:
  virtual ~KvPolicy() = default;
  // Writes exactly request.keep slots to `kept`, ascending, the newest (slots - 1) among them. Deterministic, thread-safe.
  virtual void select(const KvSlots& slots, const KvRequest& request, std::vector<int32_t>& kept) const = 0;
};

// kv.budget as slots to keep after `fed` tokens: up to 1 a share (rounded down), from 2 on tokens; never fewer than the sinks and
// one, never more than `fed`.
int64_t keptTokens(double budget, int64_t fed, int sinks);

}  // namespace winnow
