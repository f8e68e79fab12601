// SPDX-License-Identifier: GPL-3.0-or-later
// Second moments of the inputs of a layer, and the inverse of damped ones, as plain squares that a few rows at a time are multiplied by.
// Both are scaled so that the mean of the moments' diagonal is one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/core/threads.h"
#include "engine/weights/inverse_factor.h"
#include "engine/weights/second_moments.h"

namespace winnow {

class DenseSquare {
 public:
  static DenseSquare ofMoments(const SecondMoments& moments);
  // U^T U; `pool` null: on this thread alone. The factor's columns are in their own order.
  static DenseSquare ofInverse(const InverseFactor& factor, const SecondMoments& moments, ThreadPool* pool);

  int cols() const { return cols_; }
  int stride() const { return stride_; }  // of rows: cols, up to a multiple of 16
  // out [count, stride] = rows [count, stride] times the square; what fills up the rows of `out` is zero.
  void times(const float* rows, int count, float* out) const;

 private:
  explicit DenseSquare(int cols) : cols_(cols), stride_((cols + 15) / 16 * 16), values_(static_cast<size_t>(cols_) * static_cast<size_t>(stride_)) {}
  float* row(int r) { return values_.data() + int64_t{r} * stride_; }
  int cols_, stride_;
  std::vector<float> values_;  // [cols, stride]
};

}  // namespace winnow
