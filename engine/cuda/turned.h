// SPDX-License-Identifier: GPL-3.0-or-later
// Positions within the cache (engine/cpu/turns.h says what they are) on the device: keys with gaps behind them are turned when they are read, into
// pages of f16 rows beside the cache, which attention reads in their place; the cache keeps them as they were stored. A turned key is rounded to
// f16 once more, however many evictions there were.
#pragma once
#include "engine/cache/page_form.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

struct TurnArgs {
  KvTables kv;                                // keys: null where nobody reads them
  int kvHeads = 0, headDim = 0, added = 0, mostTokens = 0;
  const float* frequencies = nullptr;         // [half] radians per position of the RoPE pairs (c, c + half)
  int half = 0;
  bool hadamard = false;                      // keys are stored rotated
  void* rows = nullptr;                       // f16 [kvHeads, pages of mostTokens, pageTokens, headDim]
  uint64_t* table = nullptr;                  // [kvHeads, pageStride]
  PageForm* forms = nullptr;                  // the same, where pages may be sealed
  int32_t* within = nullptr;                  // [mostTokens] 0, 1, 2, ...: what a sliding window goes by
};
KvTables turnPages(Stream stream, const TurnArgs& args);

}  // namespace winnow::cuda
