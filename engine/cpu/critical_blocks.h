// SPDX-License-Identifier: GPL-3.0-or-later
// Which blocks of the cache a segment of a prompt attends to (CritiPrefill: Lv et al. 2024, arXiv 2409.12490). Neighbouring queries attend to the
// same blocks: the center between the largest and the smallest value of each component over the segment's queries is held against the largest
// and the smallest of each over a block's keys, and the larger of the two products is what the block is worth to a query head; a kv head takes
// the mean over its group. A softmax over the blocks is mixed with that of the layer below, since neighbouring layers want the same blocks.
// Each kv head keeps its best; the block with the first tokens, where attention parks its surplus, always stays.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/cache/blocks_read.h"
#include "engine/core/memory.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

class CriticalBlocks {
 public:
  static constexpr int kBlock = kCriticalSlots;
  CriticalBlocks(Ledger& ledger, int kvHeads, int context);

  // The first layer of a segment that chooses; the next ones mix with it.
  void begin() { slots_ = -1; }
  // For the queries of args: q, kv and what else says how they are read; all heads hold as many slots. `budget` slots before the segment stay.
  void choose(Context& context, const AttendArgs& args, int budget);

  // Slots before the segment; those behind are all attended to.
  int before() const { return before_; }
  bool has(int kvHead, int slot) const { return slot >= before_ || chosen(kvHead)[slot / kBlock] != 0; }
  // Where what is said of `slot` ends, at most `end`.
  int runEnd(int kvHead, int slot, int end) const;
  // Slots before the segment that are attended to, summed over the kv heads.
  int64_t kept() const;

 private:
  int blocks() const { return (before_ + kBlock - 1) / kBlock; }
  uint8_t* chosen(int kvHead) const { return chosen_.as<uint8_t>() + int64_t{kvHead} * stride_; }
  float* worth(int kvHead) const { return worth_.as<float>() + int64_t{kvHead} * stride_; }
  void judge(Context& context, const AttendArgs& args, int kvHead, float* out) const;
  void take(int kvHead, int count, int firstSeen);

  int kvHeads_, stride_;
  int before_ = 0;
  int slots_ = -1;             // before the segment when the layer below chose; -1: it did not
  Buffer worth_, fresh_;       // f32 [kvHeads, blocks of the context]: of this layer, mixed with those below
  Buffer chosen_;              // bytes [kvHeads, blocks of the context]
};

}  // namespace winnow::cpu
