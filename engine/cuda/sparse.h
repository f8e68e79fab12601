// SPDX-License-Identifier: GPL-3.0-or-later
// Products of one token that read only some rows or columns of their matrices (engine/cpu/sparse.h), on the device: what takes part is found, listed
// and counted in device memory, so that a captured step serves every token. And what a prompt did to the neurons of a feed-forward.
#pragma once
#include "engine/cuda/ops.h"
#include "engine/weights/channel_major.h"

namespace winnow::cuda {

// A row of which some entries take part.
struct KeptRow {
  float* masked = nullptr;    // [cols], the others zero
  float* rounded = nullptr;   // the same as the products of a mode see it, zero to a multiple of ChannelMajor::kUnit
  uint32_t* masks = nullptr;  // [chunks of 32] bits of those that take part
  int32_t* list = nullptr;    // [cols] their indices, ascending
  float* values = nullptr;    // [cols] of the list, rounded
  int32_t* count = nullptr;   // how many they are; null: neither list nor values are made
};
struct KeepArgs {
  Source source;  // of one row
  int cols = 0;
  float threshold = -1;              // magnitudes up to this count as zero; negative: none does. What is no number stays
  const uint32_t* within = nullptr;  // bits as KeptRow::masks: what is outside counts as zero and is not read; null: nothing is
  ActivationMode mode{};
  KeptRow kept;                 // out
  uint32_t* ticket = nullptr;   // zero before and after
};
void keepRow(Stream stream, const KeepArgs& args);

struct ChannelTarget {
  const ChannelMajor* channels = nullptr;  // in device memory; null only for rows of plain matrices
  MatrixArgs w;
  float* y = nullptr;  // [rows]
  const float* bias = nullptr;
  bool accumulate = false;  // columns alone
};

// y = W x (+ bias) (+ y) with the columns that take part; at most kMostTargets targets. The list is cut into parts, whose sums meet in their order.
struct ColumnScratch {
  float* partial = nullptr;     // columnScratchFloats
  uint32_t* tickets = nullptr;  // [columnParts of all targets] zeros before and after
};
int columnParts(int rows);
size_t columnScratchFloats(int parts);  // of launches of so many parts or fewer
void multiplyColumns(Stream stream, std::span<const ChannelTarget> targets, const KeptRow& x, int cols, const ColumnScratch& scratch);

// y[r] = W[r] . x (+ bias[r]) for the listed rows, at most `most`; the others stay.
void multiplyRows(Stream stream, std::span<const ChannelTarget> targets, const int32_t* list, const int32_t* count, int most, const float* rounded /* as in KeptRow */);

// out[c] = sum over tokens of the squares of what down reads. unit: tokens are scaled to norm 1 before.
void sumSquares(Stream stream, const Source& source, int tokens, int cols, bool unit, float* weights /* scratch, [tokens] */, float* out /* [cols] */);

}  // namespace winnow::cuda
