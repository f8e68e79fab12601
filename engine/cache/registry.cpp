// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/registry.h"

#include <array>

#include "engine/cache/policies.h"

namespace winnow {

std::span<const KvPolicyInfo> kvPolicies() {
  static const std::array<KvPolicyInfo, 5> policies = {{
      {"full", "Keep everything", "", false, false, &makeFull},
      {"window", "Sliding window", "", true, false, &makeWindow},
      {"streaming", "StreamingLLM: sinks and a window", "Xiao et al., ICLR 2024, arXiv 2309.17453", true, false, &makeWindow},
      {"h2o", "H2O: heavy hitters and recent tokens", "Zhang et al., NeurIPS 2023, arXiv 2306.14048", false, true, &makeH2o},
      {"random", "Random (baseline)", "", false, false, &makeRandom},
  }};
  return policies;
}

}  // namespace winnow
