// SPDX-License-Identifier: GPL-3.0-or-later
// Products of one token that read only some rows or columns of their matrices. Bit-equal for any number of threads.
#pragma once
#include <span>

#include "engine/cpu/ops.h"
#include "engine/weights/channel_major.h"

namespace winnow::cpu {

struct SparseTarget {
  const Matrix* w = nullptr;
  const ChannelMajor* channels = nullptr;  // of w; null only for rows of plain matrices
  float* y = nullptr;                  // [rows]
  const float* bias = nullptr;         // [rows] or null
  bool accumulate = false;             // columns alone
  ActivationMode mode{};               // how x is rounded
};

// y = W x (+ bias) (+ y) where x is zero but at the ascending `columns`; at most 3 targets that see one x.
void multiplyColumns(Context& context, std::span<const SparseTarget> targets, std::span<const int32_t> columns, const float* x /* [cols] */);
// y[r] = W[r] . x (+ bias[r]) for the ascending `rows`, the others stay. Of plain matrices bit for bit what matmul() makes of these rows.
void multiplyRows(Context& context, std::span<const SparseTarget> targets, std::span<const int32_t> rows, const float* x /* [cols] */);

// Plain targets of one mode (matmul.cpp).
void matmulRows(Context& context, std::span<const MatmulTarget> targets, std::span<const int32_t> rows, const float* x, ActivationMode mode);

// Entries of x whose magnitude is above `threshold`, ascending, to `kept`; the others become zero.
void keepAbove(float* x, int count, float threshold, std::vector<int32_t>& kept);

}  // namespace winnow::cpu
