// SPDX-License-Identifier: GPL-3.0-or-later
// The eviction policies; one is one file and one line in registry.cpp.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/cache/allocation.h"
#include "engine/cache/kv_cache.h"

namespace winnow {

class KvPolicy;  // engine/cache/policy.h

// What a policy reads beside positions and attention: each costs time at every eviction.
struct KvReads {
  bool keys = false, values = false;
  bool queries = false;  // the newest queries themselves (observes says how many), not their attention
  bool carries = false;  // scores of its own, from one run to the next
  bool rows() const { return keys || values || queries; }
};

struct KvPolicyInfo {
  std::string name, title, paper = {};
  bool usesSinks = false;      // kv.sinks applies, else kv.oldest
  bool draws = false;          // kv.seed applies
  bool keepsRuns = false;      // what stays are a few runs of neighbours: kv.positions applies
  bool selects = false;        // nothing leaves: a query reads the part of the cache that fits the budget (KvCache::select)
  bool once = false;           // it chooses when a prompt has ended, and nothing leaves after that: kv.interval does not apply
  double recentShare = 0;      // of the budget, what the newest tokens take in every layer; the rest is dealt by `allocation`
  ObservedQueries observes{};  // whose attention, or with reads.queries which queries, it reads
  KvReads reads{};
  KvAllocation allocation{};   // how its paper deals the budget; kv.allocation overrides it
  double pyramidBeta = kPyramidBeta;
  std::unique_ptr<KvPolicy> (*make)() = nullptr;

  const char* protectedFirst() const { return usesSinks ? "kv.sinks" : "kv.oldest"; }  // the knob of the first tokens that stay
};
std::span<const KvPolicyInfo> kvPolicies();  // "full" first
const KvPolicyInfo& kvPolicy(std::string_view name);  // CHECKs that there is one

}  // namespace winnow
