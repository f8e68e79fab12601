// SPDX-License-Identifier: GPL-3.0-or-later
// What a cache holds at one moment, small enough to keep many of them: positions are gathered into columns.
#pragma once
#include <algorithm>

#include "engine/run/engine.h"

namespace winnow {

struct CacheMapRow {
  int layer = 0, kvHead = 0;
  int keysOf = 0;      // the layer whose keys it reads: its own, but where attention or a cache is shared
  int64_t kept = 0;    // positions held in all
  std::vector<uint32_t> held;               // [columns] positions
  std::vector<uint8_t> keyBits, valueBits;  // [columns] of the newest position held there, 16 where it is not quantized; 0: nothing there
  bool borrowed = false;  // what it says is of the layer keysOf, which owns keys and values
};

struct CacheMap {
  int64_t position = 0;  // tokens fed
  int perColumn = 1;     // positions, a power of two; the last column may have fewer
  std::vector<CacheMapRow> rows;  // by layer and kv head; layers without attention are not there
  CacheStats stats;

  int columns() const { return static_cast<int>((position + perColumn - 1) / perColumn); }
  int64_t firstOf(int column) const { return int64_t{column} * perColumn; }
  int64_t widthOf(int column) const { return std::min<int64_t>(perColumn, position - firstOf(column)); }
};

// At most `mostColumns` columns (>= 1). For the engine thread.
CacheMap cacheMapOf(const Session& session, int mostColumns);

}  // namespace winnow
