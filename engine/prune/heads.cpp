// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/heads.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/prune/head_methods.h"

namespace winnow {

std::span<const HeadMethod> headMethods() {
  static const HeadMethod methods[] = {
      {"lrp", "Layer-wise relevance: heads by what they say for the next token", "Hatefi et al. 2024 (arXiv 2408.12568); Achtibat et al., ICML 2024 (arXiv 2402.05602)", false, true, lrpHeadScores},
      {"minitron", "Minitron: heads by the norm of their output", "Muralidharan et al., NeurIPS 2024 (arXiv 2407.14679), section 2", true, false, minitronHeadScores},
      {"random", "Random heads: what the others are compared with", "", false, false, randomHeadScores},
  };
  return methods;
}

const HeadMethod* findHeadMethod(std::string_view name) {
  for (const HeadMethod& method : headMethods())
    if (method.name == name) return &method;
  return nullptr;
}

std::string headKey(const HeadChoice& choice) {
  return std::to_string(choice.removed) + " of the heads by " + choice.method + (choice.recovery.empty() ? "" : " recovered by " + choice.recovery + " damped " + std::to_string(choice.damping));
}

int kvHeadsLeft(double removed, int kvHeads) {
  CHECK(removed > 0 && kvHeads > 1, removed, kvHeads);
  return std::clamp(static_cast<int>(std::lround((1 - removed) * kvHeads)), 1, kvHeads - 1);
}

KeptAttention keptHeads(std::span<const int> kept, int groupSize, int headDim) {
  std::vector<int> keys, queries;
  const auto add = [](std::vector<int>& to, int first, int count) {
    for (int c = 0; c < count; ++c) to.push_back(first + c);
  };
  for (const int group : kept) {
    add(keys, group * headDim, headDim);
    add(queries, group * groupSize * headDim, groupSize * headDim);
  }
  const Channels ofQueries = keptChannels(std::move(queries)), ofKeys = keptChannels(std::move(keys));
  return {ofQueries, ofKeys, ofKeys, ofQueries};
}

}  // namespace winnow
