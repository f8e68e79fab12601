// SPDX-License-Identifier: GPL-3.0-or-later
// The eviction policies; one is one file and one line in registry.cpp.
#pragma once
#include <memory>
#include <span>
#include <string>

namespace winnow {

class KvPolicy;  // engine/cache/policy.h

struct KvPolicyInfo {
  std::string name, title, paper;
  bool usesSinks = false;          // kv.sinks applies
  bool needsColumnSums = false;    // attention mass each slot received
  std::unique_ptr<KvPolicy> (*make)() = nullptr;
};
std::span<const KvPolicyInfo> kvPolicies();  // "full" first

}  // namespace winnow
