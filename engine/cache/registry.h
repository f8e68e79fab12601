// SPDX-License-Identifier: GPL-3.0-or-later
// The eviction policies; one is one file and one line in registry.cpp.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "engine/cache/allocation.h"
#include "engine/cache/kv_cache.h"

namespace winnow {

class KvPolicy;  // engine/cache/policy.h

struct KvPolicyInfo {
  std::string name, title, paper = {};
  bool usesSinks = false;      // kv.sinks applies
  bool draws = false;          // kv.seed applies
  ObservedQueries observes{};  // whose attention it reads
  KvAllocation allocation{};   // how its paper deals the budget; kv.allocation overrides it
  std::unique_ptr<KvPolicy> (*make)() = nullptr;
};
std::span<const KvPolicyInfo> kvPolicies();  // "full" first

}  // namespace winnow
