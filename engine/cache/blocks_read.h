// SPDX-License-Identifier: GPL-3.0-or-later
// How much a query reads where it chooses (Quest, engine/cpu/kv_cache_selected.cpp). Included by kernel files, so nothing of std::.
#pragma once
#include "engine/cache/codes.h"

namespace winnow {

constexpr int kBlockSlots = 16, kFewestBlocks = 3;

// What a segment of a prompt chooses (CritiPrefill, engine/cpu/critical_blocks.h).
constexpr int kCriticalSlots = 32;         // of a block
constexpr float kCriticalFromBelow = 0.25f;  // the layer below's part of a block's worth

WINNOW_HOST_DEVICE inline int blocksOf(int slots) { return (slots + kBlockSlots - 1) / kBlockSlots; }
// Of a head that holds so many slots. budget: up to 1 a share, from 2 on tokens, as kv.budget.
WINNOW_HOST_DEVICE inline int blocksRead(double budget, int slots) {
  const double wanted = budget <= 1 ? budget * slots : budget;
  const int all = blocksOf(slots);
  if (wanted >= slots) return all;
  const int chosen = static_cast<int>(wanted) / kBlockSlots, least = chosen < kFewestBlocks ? kFewestBlocks : chosen;
  return least < all ? least : all;
}
// Of a head that holds so many slots or fewer: just before a number of tokens is exceeded, the last block is read in part.
inline int mostBlocksRead(double budget, int slots) {
  if (budget <= 1 || budget >= slots) return blocksRead(budget, slots);
  const int chosen = blocksOf(static_cast<int>(budget)), most = chosen < kFewestBlocks ? kFewestBlocks : chosen;
  return most < blocksOf(slots) ? most : blocksOf(slots);
}

}  // namespace winnow
