// SPDX-License-Identifier: GPL-3.0-or-later
// Rounding of rows, and of groups of them, to whatever packed format: what methods build on.
#pragma once
#include <cstdint>

#include "engine/quantize/code_format.h"
#include "engine/weights/matrix.h"

namespace winnow {

// Where the scale of a group lies; those of the groups that follow lie 16 apart each.
struct GridPlace {
  uint16_t* scales = nullptr;
  uint16_t* mins = nullptr;   // null when symmetric
  uint8_t* steps = nullptr;   // exponents
};
GridPlace gridPlace(Matrix& matrix, int row, int group);

// Scales (minimums, exponents) of the groups of w [cols], and the codes: to nearest, ties to even. The format has no super-blocks.
void roundRow(const WeightFormat& format, const float* w, int cols, uint8_t* q, const GridPlace& place);

// The grid of one group.
class Grid {
 public:
  Grid(const WeightFormat& format, const GridPlace& place);
  uint8_t nearest(float w) const;
  float value(uint8_t code) const { return values_ ? scale_ * values_[code] : scale_ * (static_cast<float>(code) - offset_) + min_; }

 private:
  const CodeFormat* format_;
  const float* values_;  // null: integers
  float scale_, min_, offset_, bottom_, top_;
};

}  // namespace winnow
