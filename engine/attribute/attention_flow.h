// SPDX-License-Identifier: GPL-3.0-or-later
// Follows attention from the positions that predict the response down to the sources, row by row as a forward pass computes it: no
// matrix of all pairs is ever kept.
#pragma once
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

class AttentionFlow final : public AttentionTap {
 public:
  // owner: source of each token of the prompt, -1 for none. Queries from `firstQuery` on predict the response's tokens.
  AttentionFlow(int layers, int sources, std::vector<int> owner, int64_t firstQuery, int64_t tokens, bool rollout);
  void take(int layer, const AttentionRows& rows) override;

  bool complete() const { return complete_; }  // false: some keys had left the cache
  // Attention of response token t: on each source, and on the first token of all. Sums over layers, or rolled out.
  double mass(int source, int64_t token) const { return result_[static_cast<size_t>(token)][static_cast<size_t>(source)]; }
  double firstToken(int64_t token) const { return result_[static_cast<size_t>(token)][static_cast<size_t>(sources_)]; }

 private:
  void meanOfHeads(const AttentionRows& rows, int query, int64_t seen);
  float* flow(int layer, int64_t position) { return flows_[static_cast<size_t>(layer)].data() + position * columns(); }
  int64_t columns() const { return sources_ + 1; }  // the last is the first token's

  int layers_, sources_;
  std::vector<int> owner_;
  int64_t firstQuery_;
  bool rollout_, complete_ = true;
  std::vector<float> mean_;                  // [seen] of one query
  std::vector<std::vector<float>> flows_;    // rollout: [layers][tokens, columns]: where what a position holds after a layer comes from
  std::vector<std::vector<double>> result_;  // [response tokens][columns]
};

}  // namespace winnow
