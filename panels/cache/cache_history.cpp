// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/cache/cache_history.h"

namespace winnow {

void CacheHistory::add(const CacheMap& map) {
  while (!maps_.empty() && maps_.back().position >= map.position) maps_.pop_back();
  maps_.push_back(map);
  if (maps_.size() <= kMost) return;
  size_t kept = 0;
  for (size_t i = 0; i < maps_.size(); i += 2) maps_[kept++] = std::move(maps_[i]);
  if (maps_.size() % 2 == 0) maps_[kept++] = std::move(maps_.back());
  maps_.resize(kept);
}

}  // namespace winnow
