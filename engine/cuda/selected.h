// SPDX-License-Identifier: GPL-3.0-or-later
// Blocks of keys that a query chooses (Quest; engine/cpu/kv_cache_selected.cpp says how), on the device: their bounds, the choice, and tables of
// pages of kBlockSlots for attendDecode.
#pragma once
#include "engine/cache/page_form.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

struct BoundArgs {
  KvTables kv;  // keys of full blocks, all written
  int kvHeads = 0, headDim = 0;
  int first = 0, end = 0;      // blocks; a head takes those that lie within its length
  uint16_t* bounds = nullptr;  // f16 [kvHeads, blockStride]{largest[headDim], smallest[headDim]}
  int blockStride = 0;
};
void takeBounds(Stream stream, const BoundArgs& args);

struct Selection {            // of one query
  int32_t* blocks = nullptr;  // [kvHeads, most] ascending, the newest the last
  int32_t* slots = nullptr;   // [kvHeads] that they hold, this step's included
  int most = 0;               // mostBlocksRead of the bound on the lengths
};
struct SelectArgs {
  const float* q = nullptr;  // [heads, headDim]
  int heads = 0, kvHeads = 0, headDim = 0;
  KvTables kv;               // lengths and positions
  int added = 0, mostTokens = 0, slidingWindow = 0;  // as in AttendArgs
  double budget = 0;
  const uint16_t* bounds = nullptr;  // as in BoundArgs: of every block before the newest
  int blockStride = 0;
  float* scores = nullptr;      // scratch, [kvHeads, blocks of mostTokens]
  uint32_t* tickets = nullptr;  // [kvHeads], zeros before and after
  Selection chosen;             // out
};
void selectBlocks(Stream stream, const SelectArgs& args);

// The chosen blocks of a layer as pages: where they lie, or unpacked into `rows` where they are sealed. Lengths of the result count this step.
struct PlaceArgs {
  KvTables kv;  // keys: null for a follower
  int kvHeads = 0, headDim = 0;
  Selection chosen;
  void* rows = nullptr;          // where pages may be sealed: f16 [2, kvHeads, most, kBlockSlots, headDim]
  uint64_t* tables = nullptr;    // [2, kvHeads, most]
  int32_t* positions = nullptr;  // [kvHeads, most * kBlockSlots], for a sliding window, or null
};
KvTables placeBlocks(Stream stream, const PlaceArgs& args);

}  // namespace winnow::cuda
