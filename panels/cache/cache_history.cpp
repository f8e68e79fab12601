// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/cache/cache_history.h"

namespace winnow {

void CacheHistory::add(const CacheMap& map) {
  while (!maps_.empty() && maps_.back().position >= map.position) maps_.pop_back();
  maps_.push_back(map);
  while (maps_.size() > 2 && (maps_.size() > kMost || bytes() > kMostBytes)) thin();
}

size_t CacheHistory::bytes() const {
  constexpr size_t cell = sizeof(uint32_t) + 2 * sizeof(uint8_t);  // held, keyBits, valueBits
  size_t sum = 0;
  for (const CacheMap& map : maps_) sum += map.rows.size() * static_cast<size_t>(map.columns()) * cell;
  return sum;
}

void CacheHistory::thin() {
  size_t kept = 0;
  for (size_t i = 0; i < maps_.size(); i += 2) maps_[kept++] = std::move(maps_[i]);
  if (maps_.size() % 2 == 0) maps_[kept++] = std::move(maps_.back());
  maps_.resize(kept);
}

}  // namespace winnow
