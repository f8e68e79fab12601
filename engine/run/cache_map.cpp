// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/cache_map.h"

#include <algorithm>

#include "engine/run/session_impl.h"

namespace winnow {
namespace {

CacheMapRow rowOf(const KvCache& cache, int layer, int head, int keysOf, const CacheMap& map) {
  CacheMapRow row{layer, head, keysOf, cache.slots(layer, head), {}, {}, {}, false};
  const auto columns = static_cast<size_t>(map.columns());
  row.held.resize(columns);
  row.keyBits.resize(columns);
  row.valueBits.resize(columns);
  const std::span<const int32_t> positions = cache.positions(layer, head);
  const auto page = static_cast<size_t>(cache.pageTokens());
  for (size_t slot = 0; slot < positions.size(); ++slot) {
    const auto column = static_cast<size_t>(positions[slot] / map.perColumn);
    ++row.held[column];
    if (slot + 1 < positions.size() && static_cast<size_t>(positions[slot + 1] / map.perColumn) == column) continue;
    row.keyBits[column] = cache.ownsKeys(layer) ? cache.form(layer, head, true, slot / page).bits : uint8_t{0};
    row.valueBits[column] = cache.form(layer, head, false, slot / page).bits;
  }
  return row;
}

}  // namespace

CacheMap cacheMapOf(const Session& session, int mostColumns) {
  const auto& in = EngineCore::inside(session);
  const KvCache& cache = *in.cache;
  CacheMap map;
  map.position = in.fed;
  while (map.columns() > std::max(mostColumns, 1)) map.perColumn *= 2;
  map.stats = session.cache();
  for (int layer = 0; layer < cache.layers(); ++layer) {
    const int source = in.plan.sourceOf(layer);
    for (int head = 0; head < cache.kvHeads() && cache.holds(source); ++head) {
      map.rows.push_back(rowOf(cache, source, head, in.plan.borrows(layer) ? source : in.plan.sharing[static_cast<size_t>(layer)].attnSource, map));
      map.rows.back().layer = layer;
      map.rows.back().borrowed = in.plan.borrows(layer);
    }
  }
  return map;
}

}  // namespace winnow
