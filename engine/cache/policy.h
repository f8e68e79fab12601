// SPDX-License-Identifier: GPL-3.0-or-later
// An eviction policy says how much each slot is worth. One policy is one file, a line in policies.h and a line in registry.cpp; who stays
// follows from the scores and the budget of each head (engine/cache/allocation.h).
#pragma once
#include <cstdint>
#include <limits>
#include <span>

namespace winnow {

// What there is to know of the keys and queries of a kv head.
struct HeadGeometry {
  int headDim = 0, group = 1;          // group: query heads that read the kv head
  int slidingWindow = 0;               // tokens; 0: a query sees every slot up to its own
  bool hadamard = false;               // keys and queries are stored rotated (kv.rotate)
  std::span<const float> frequencies;  // radians per position of each RoPE pair (c, c + size); empty without RoPE
};

// The newest queries of a kv head's group, as attention used them: after RoPE, not scaled. Query i is at position first + i.
struct KvQueries {
  const float* rows = nullptr;  // [count, group, headDim], `stride` floats from a query to the next
  int64_t stride = 0, first = 0;
  int count = 0, fresh = 0;     // fresh: of them, the newest that came since the policy last ran
};

// One (layer, kv head) as a policy sees it. Slots are in order of original position. A policy is given what it declares (KvReads in
// engine/cache/registry.h), and empty spans for the rest.
struct KvSlots {
  int layer = 0, kvHead = 0;
  std::span<const int32_t> positions;    // [slots] original positions, ascending
  std::span<const float> columnSums;     // [slots] attention mass received, summed over the queries that the policy observes and the
                                         // group's query heads; empty for a policy that observes none
  HeadGeometry geometry{};
  std::span<const float> keys{}, values{};  // [slots, headDim] as they are stored, sealed or not; keys after RoPE
  KvQueries queries{};
  std::span<float> carried{};            // [slots] what the policy left there when it last ran; 0 for slots that came since
};

struct KvRequest {
  int keep = 0;    // slots a head keeps on average, >= 1
  int sinks = 0;   // first tokens that stay
  int window = 1;  // newest queries that were observed, for a policy that observes those; newest tokens that stay, for one with a recentShare
  uint32_t seed = 0;  // of a policy that draws
  int64_t began = 0;  // tokens fed when the policy first ran
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
