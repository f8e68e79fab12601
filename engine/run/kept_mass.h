// SPDX-License-Identifier: GPL-3.0-or-later
// What a cache that forgets still holds of what the whole cache would be asked for: the attention that a model with the whole cache pays to
// the tokens that the other one has, by layer and head.
#pragma once
#include <span>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

struct KeptMass {
  struct Head {
    double mass = 0;  // of the attention of a query of the whole cache, what falls on tokens held and on its own; mean over the queries
    double held = 0;  // of the tokens up to the query, those held and its own; mean over the queries
  };
  int layers = 0, heads = 0;   // query heads
  int64_t prompt = 0, queries = 0;  // tokens fed before the first query, and after it
  std::vector<Head> of;        // [layers][heads]
  std::vector<bool> attends;   // [layers] false: the layer has no attention

  const Head& at(int layer, int head) const { return of[static_cast<size_t>(layer * heads + head)]; }
  Head mean(int layer) const;  // over its heads
  Head mean() const;           // over the layers that attend
  int least(int layer) const;  // the head that keeps least
};

// Feeds the ids to both sessions, from empty caches: `prompt` of them at once, after which the policy of `kept` acts, the others one by one,
// each a query. What `kept` holds is what its policy left when the query came. `whole` keeps everything and its attention is what counts.
// Both end empty. A policy that only reads less (quest) holds everything: 1. Errors: fewer than one query, a `whole` that evicts, cancelled.
Result<KeptMass> measureKeptMass(Session& whole, Session& kept, std::span<const int32_t> ids, int prompt, const Progress& progress);

}  // namespace winnow
