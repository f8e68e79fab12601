// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <array>

#include "engine/attribute/methods.h"

namespace winnow {

std::span<const AttributionMethod> attributionMethods() {
  static const std::array<AttributionMethod, 7> methods = {{
      {.name = "attribot", .title = "AttriBoT",
       .help = "Leave-one-out with the keys and values of shared prefixes kept; of many paragraphs, only the best three are looked into; a proxy model chooses the "
               "sources worth the target's time.",
       .paper = "Liu, Kandpal, Raffel, ICLR 2025, arXiv 2411.15102", .usesProxy = true, .run = &runAttribot},
      {.name = "loo", .title = "Leave-one-out, exact", .help = "One forward pass without each source, everything computed anew.", .run = &runLeaveOneOut},
      {.name = "contextcite", .title = "ContextCite", .help = "A sparse linear model of the answer's log-odds over 64 random subsets of the sources.",
       .paper = "Cohen-Wang et al., NeurIPS 2024, arXiv 2409.00729", .nats = false, .replays = true, .run = &runContextCite},
      {.name = "shapley", .title = "Shapley values", .help = "Each source's contribution averaged over random orders; fair where sources repeat each other, and slow.",
       .paper = "Shapley, 1953", .replays = true, .run = &runShapley},
      {.name = "occlusion", .title = "Occlusion of token windows", .help = "Leaves out eight tokens at a time, whatever sentences they belong to.",
       .unit = SourceUnit::window, .run = &runOcclusion},
      {.name = "attention", .title = "Attention, summed", .help = "How much attention each source gets over all layers. One pass; not a measure of effect.",
       .nats = false, .run = &runAttention},
      {.name = "rollout", .title = "Attention rollout", .help = "Attention followed through the layers, half of each position's own. One pass; not a measure of effect.",
       .paper = "Abnar, Zuidema, ACL 2020", .nats = false, .run = &runRollout},
  }};
  return methods;
}

const AttributionMethod* findAttributionMethod(std::string_view name) {
  const auto all = attributionMethods();
  const auto found = std::ranges::find(all, name, &AttributionMethod::name);
  return found == all.end() ? nullptr : &*found;
}

Error unknownAttributionMethod(std::string_view name) {
  std::string names;
  for (const AttributionMethod& method : attributionMethods()) names += (names.empty() ? "" : ", ") + method.name;
  return {ErrorCode::usage, "There is no attribution method " + std::string(name) + ".", "Choose one of " + names + "."};
}

}  // namespace winnow
