// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/attention_flow.h"

namespace winnow {

AttentionFlow::AttentionFlow(int layers, int sources, std::vector<int> owner, int64_t firstQuery, int64_t tokens, bool rollout)
    : layers_(layers), sources_(sources), owner_(std::move(owner)), firstQuery_(firstQuery), rollout_(rollout) {
  owner_.resize(static_cast<size_t>(tokens), -1);
  if (!owner_.empty()) owner_[0] = sources_;
  result_.assign(static_cast<size_t>(tokens - firstQuery), std::vector<double>(static_cast<size_t>(columns()), 0.0));
  if (rollout_) flows_.assign(static_cast<size_t>(layers), std::vector<float>(static_cast<size_t>(tokens * columns())));
}

void AttentionFlow::meanOfHeads(const AttentionRows& rows, int query, int64_t seen) {
  mean_.assign(static_cast<size_t>(seen), 0.0f);
  for (int head = 0; head < rows.heads; ++head) {
    const float* p = rows.probabilities + (int64_t{head} * rows.queries + query) * rows.stride;
    for (int64_t slot = 0; slot < seen; ++slot) mean_[static_cast<size_t>(slot)] += p[slot];
  }
  for (float& value : mean_) value /= static_cast<float>(rows.heads);
}

// Rollout, bottom up: half of what a position holds is its own, half what its attention brings. Keeping only which source it comes from,
// a layer's rows need those of the layer below at earlier positions, which are there already.
void AttentionFlow::take(int layer, const AttentionRows& rows) {
  complete_ &= rows.columns == rows.first + rows.queries;
  if (!complete_) return;
  const int64_t width = columns();
  for (int query = 0; query < rows.queries; ++query) {
    const int64_t position = rows.first + query;
    const bool predicts = position >= firstQuery_;
    if (!predicts && !rollout_) continue;
    meanOfHeads(rows, query, position + 1);
    std::vector<double>* out = predicts ? &result_[static_cast<size_t>(position - firstQuery_)] : nullptr;
    if (!rollout_) {
      for (int64_t slot = 0; slot <= position; ++slot)
        if (const int source = owner_[static_cast<size_t>(slot)]; source >= 0) (*out)[static_cast<size_t>(source)] += mean_[static_cast<size_t>(slot)];
      continue;
    }
    float* to = flow(layer, position);
    for (int64_t slot = 0; slot <= position; ++slot) {
      const float share = 0.5f * mean_[static_cast<size_t>(slot)] + (slot == position ? 0.5f : 0.0f);
      if (share == 0) continue;
      if (layer == 0) {
        if (const int source = owner_[static_cast<size_t>(slot)]; source >= 0) to[source] += share;
        continue;
      }
      const float* from = flow(layer - 1, slot);
      for (int64_t i = 0; i < width; ++i) to[i] += share * from[i];
    }
    if (predicts && layer + 1 == layers_) out->assign(to, to + width);
  }
}

}  // namespace winnow
