// SPDX-License-Identifier: GPL-3.0-or-later
// Which head of the leader a head of a follower attends most like: cosine of the rows of attention, mean over the queries behind the first, whose
// row is the same for all (pruning_sharing_attribution.md, A1 steps 2 and 10).
#pragma once
#include <span>
#include <vector>

#include "engine/core/threads.h"
#include "engine/plan/plan.h"
#include "engine/run/backend.h"

namespace winnow {

// Sees every layer of a batch in order, of a model whose layers all attend themselves.
class HeadLikeness final : public AttentionTap {
 public:
  HeadLikeness(const std::vector<LayerSharing>& sharing, int heads, ThreadPool& pool);
  void take(int layer, const AttentionRows& rows) override;
  // Mean cosine of a follower's head with a head of its leader.
  double at(int layer, int head, int leaders) const;
  // [heads] the leader's head that each is most like: of equals its own number, then the first. Several may take the same.
  std::vector<int> heads(int layer) const;

 private:
  struct Rows {
    std::vector<float> values;   // [heads, queries, columns]
    std::vector<double> norms;   // [heads, queries]
  };
  void keep(const AttentionRows& rows, Rows& out) const;
  int heads_;
  ThreadPool& pool_;
  std::vector<int> leaders_;                // [layers]
  std::vector<char> followed_;              // [layers]
  std::vector<Rows> rows_;                  // [layers] of leaders, of this batch
  std::vector<std::vector<double>> sums_;   // [layers][heads, heads of the leader] of followers
  std::vector<int64_t> counts_;             // [layers] queries
};

// The rows of a leader as a follower with other heads has them, [heads, queries, stride].
std::vector<float> rowsOfHeads(const float* probabilities, int64_t stride, int queries, std::span<const int> heads);

}  // namespace winnow
