// SPDX-License-Identifier: GPL-3.0-or-later
// Where every head looks over one text, gathered into cells so that long texts stay small, and what each head does in a few figures.
#pragma once
#include <algorithm>

#include "engine/run/engine.h"

namespace winnow {

struct HeadAttention {
  std::vector<float> cells;  // [cells][cells] a query cell's mean share of attention on the tokens of a key cell; 0 ahead of the query
  double first = 0, own = 0, previous = 0;  // mean share on the first token, on the query's own, on the one before; of queries after the first
  double entropy = 0;                       // bit, mean over the same
};

struct AttentionMaps {
  int layers = 0, heads = 0;  // query heads
  int64_t tokens = 0;
  int perCell = 1;                          // tokens
  std::vector<HeadAttention> of;            // [layers][heads]; no cells where a layer has no attention
  std::vector<std::string> pieces;          // [tokens] their text

  int cells() const { return static_cast<int>((tokens + perCell - 1) / perCell); }
  const HeadAttention& at(int layer, int head) const { return of[static_cast<size_t>(layer * heads + head)]; }
  float share(int layer, int head, int query, int key) const { return at(layer, head).cells[static_cast<size_t>(query * cells() + key)]; }
  int64_t firstOf(int cell) const { return int64_t{cell} * perCell; }
  int64_t lastOf(int cell) const { return std::min(firstOf(cell) + perCell, tokens) - 1; }
};

// Feeds the ids from an empty cache and leaves it empty. `mostCells` (>= 1) along a side. Errors: fewer than two tokens, an evicting cache,
// cancelled.
Result<AttentionMaps> measureAttentionMaps(Session& session, std::span<const int32_t> ids, int mostCells, const Progress& progress);

}  // namespace winnow
