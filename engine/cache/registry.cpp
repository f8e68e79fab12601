// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/registry.h"

#include <algorithm>
#include <array>

#include "engine/cache/policies.h"
#include "engine/core/check.h"

namespace winnow {

std::span<const KvPolicyInfo> kvPolicies() {
  using enum KvAllocation;
  static const std::array<KvPolicyInfo, 16> policies = {{
      {.name = "full", .title = "Keep everything", .make = &makeFull},
      {.name = "window", .title = "Sliding window", .keepsRuns = true, .make = &makeWindow},
      {.name = "streaming", .title = "StreamingLLM: sinks and a window", .paper = "Xiao et al., ICLR 2024, arXiv 2309.17453",
       .usesSinks = true, .keepsRuns = true, .make = &makeWindow},
      {.name = "h2o", .title = "H2O: heavy hitters and recent tokens", .paper = "Zhang et al., NeurIPS 2023, arXiv 2306.14048",
       .observes = kEverybody, .make = &makeH2o},
      {.name = "tova", .title = "TOVA: what the newest query attends to", .paper = "Oren et al., EMNLP 2024, arXiv 2401.06104",
       .observes = newestQueries(1), .allocation = perLayer, .make = &makeTova},
      {.name = "snapkv", .title = "SnapKV: what the newest 32 queries attend to", .paper = "Li et al., NeurIPS 2024, arXiv 2404.14469",
       .observes = newestQueries(32), .make = &makeSnapKv},
      {.name = "pyramidkv", .title = "PyramidKV: SnapKV, early layers keep more", .paper = "Cai et al., 2024, arXiv 2406.02069",
       .observes = newestQueries(32), .allocation = pyramid, .make = &makeSnapKv},
      {.name = "adakv", .title = "Ada-KV: SnapKV, heads share a layer's budget", .paper = "Feng et al., 2024, arXiv 2407.11550",
       .observes = newestQueries(32), .allocation = adaptive, .make = &makeSnapKv},
      {.name = "knorm", .title = "Knorm: keys of small norm", .paper = "Devoto et al., EMNLP 2024, arXiv 2406.11430", .usesSinks = true,
       .reads = {.keys = true}, .make = &makeKnorm},
      {.name = "keydiff", .title = "KeyDiff: keys unlike the others", .paper = "Park et al., 2025, arXiv 2504.15364", .reads = {.keys = true},
       .make = &makeKeyDiff},
      {.name = "scissorhands", .title = "Scissorhands: tokens that stay important", .paper = "Liu et al., NeurIPS 2023, arXiv 2305.17118",
       .observes = newestQueries(64), .reads = {.keys = true, .queries = true}, .make = &makeScissorhands},
      {.name = "keyformer", .title = "Keyformer: attention with Gumbel noise, added up", .paper = "Adnan et al., MLSys 2024, arXiv 2403.09054",
       .draws = true, .observes = newestQueries(128), .reads = {.keys = true, .queries = true, .carries = true}, .make = &makeKeyformer},
      {.name = "expected", .title = "Expected Attention: what queries to come would attend to", .paper = "Devoto et al., 2025, arXiv 2510.00636",
       .usesSinks = true, .observes = newestQueries(128), .reads = {.keys = true, .values = true, .queries = true}, .make = &makeExpected},
      {.name = "minikv", .title = "MiniKV: heavy hitters of the prompt, chosen once", .paper = "Sharma et al., ACL Findings 2025, arXiv 2411.18077",
       .once = true, .recentShare = 0.5, .observes = kEverybody, .allocation = pyramid, .pyramidBeta = 7, .make = &makeMiniKv},
      {.name = "quest", .title = "Quest: reads the best pages, frees nothing", .paper = "Tang et al., ICML 2024, arXiv 2406.10774",
       .selects = true, .make = &makeFull},
      {.name = "random", .title = "Random (baseline)", .draws = true, .make = &makeRandom},
  }};
  return policies;
}

const KvPolicyInfo& kvPolicy(std::string_view name) {
  const auto policies = kvPolicies();
  const auto found = std::ranges::find(policies, name, &KvPolicyInfo::name);
  CHECK(found != policies.end(), "no policy", name);
  return *found;
}

}  // namespace winnow
