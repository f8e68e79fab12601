// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/attention_maps.h"

#include <cmath>

#include "engine/run/session_impl.h"

namespace winnow {
namespace {

class MapTap final : public AttentionTap {
 public:
  explicit MapTap(AttentionMaps& maps) : maps_(maps) {}

  void take(int layer, const AttentionRows& rows) override {
    for (int head = 0; head < rows.heads; ++head) {
      HeadAttention& to = maps_.of[static_cast<size_t>(layer * maps_.heads + head)];
      to.cells.resize(static_cast<size_t>(maps_.cells()) * static_cast<size_t>(maps_.cells()));
      for (int query = 0; query < rows.queries; ++query)
        add(to, rows.probabilities + (int64_t{head} * rows.queries + query) * rows.stride, rows.first + query);
    }
  }

 private:
  void add(HeadAttention& to, const float* row, int64_t position) const {
    const int64_t cell = position / maps_.perCell;
    const auto queries = static_cast<double>(maps_.lastOf(static_cast<int>(cell)) - maps_.firstOf(static_cast<int>(cell)) + 1);
    float* cells = to.cells.data() + cell * maps_.cells();
    double entropy = 0;
    for (int64_t key = 0; key <= position; ++key) {
      const auto p = static_cast<double>(row[key]);
      cells[key / maps_.perCell] += static_cast<float>(p / queries);
      if (p > 0) entropy -= p * std::log2(p);
    }
    if (position == 0) return;
    const double weight = 1.0 / static_cast<double>(maps_.tokens - 1);
    to.first += weight * static_cast<double>(row[0]);
    to.own += weight * static_cast<double>(row[position]);
    to.previous += weight * static_cast<double>(row[position - 1]);
    to.entropy += weight * entropy;
  }

  AttentionMaps& maps_;
};

}  // namespace

Result<AttentionMaps> measureAttentionMaps(Session& session, std::span<const int32_t> ids, int mostCells, const Progress& progress) {
  if (ids.size() < 2)
    return Error{ErrorCode::badInput, "The text has " + std::to_string(ids.size()) + " tokens; attention takes at least 2.", "Choose a longer text."};
  if (EngineCore::inside(session).evictor.evicts())
    return Error{ErrorCode::badInput, "The cache evicts (kv.policy), so the attention over the whole text is not there to read.", "Set kv.policy=full, and another share.method than mix."};
  AttentionMaps maps;
  const ModelConfig& model = EngineCore::inside(session).weights->shape();
  maps.layers = model.layers;
  maps.heads = model.heads;
  maps.of.resize(static_cast<size_t>(maps.layers) * static_cast<size_t>(maps.heads));
  maps.tokens = static_cast<int64_t>(ids.size());
  while (maps.cells() > std::max(mostCells, 1)) maps.perCell *= 2;
  MapTap tap(maps);
  session.reset();
  session.observeAttention(&tap);
  const Status fed = session.prefill(ids, progress);
  session.observeAttention(nullptr);
  session.reset();
  if (!fed) return fed.error();
  return maps;
}

}  // namespace winnow
