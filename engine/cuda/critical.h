// SPDX-License-Identifier: GPL-3.0-or-later
// Which blocks of the cache a segment of a prompt attends to (CritiPrefill; engine/cpu/critical_blocks.h says how), on the device.
#pragma once
#include "engine/cache/blocks_read.h"
#include "engine/cache/page_form.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

// Blocks of kCriticalSlots slots before a segment that its queries attend to, and then to their own.
struct CriticalList {
  const int32_t* blocks = nullptr;  // [kvHeads, stride] ascending; null: all slots are attended to
  const int32_t* counts = nullptr;  // [kvHeads]
  const int32_t* taken = nullptr;   // [kvHeads, stride] 1 or 0
  int stride = 0, before = 0;       // before: slots in front of the segment
};
// Probabilities are zero where slots are left out.
void attendPrefill(Stream stream, const AttendArgs& args, const CriticalList& critical);

struct CriticalArgs {
  const float* q = nullptr;  // [queries, heads, headDim]
  int queries = 0, heads = 0, kvHeads = 0, headDim = 0;
  KvTables kv;               // keys, as they lie, and positions
  int before = 0;            // slots of every head before the segment
  int count = 0;             // blocks that stay
  float scale = 1.0f;
  int slidingWindow = 0;
  bool mixes = false;        // worth is that of the layer below for the same segment
  float* centers = nullptr;  // scratch, [heads, headDim]
  float* fresh = nullptr;    // scratch, [kvHeads, stride]
  float* worth = nullptr;    // [kvHeads, stride]
  int stride = 0;            // blocks there is room for
  int32_t *blocks = nullptr, *taken = nullptr, *counts = nullptr;  // out, see CriticalList
  int32_t* slots = nullptr;  // out, [kvHeads] that the chosen blocks hold
};
CriticalList chooseCritical(Stream stream, const CriticalArgs& args);

}  // namespace winnow::cuda
