// SPDX-License-Identifier: GPL-3.0-or-later
// The Gram matrix X^T X of the inputs of a linear layer, summed over the tokens of a calibration text: the upper triangle in tiles of
// 64 x 64. Products of 64 tokens are summed in f32, those in double over a call of add(), which is rounded to f32 once.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/threads.h"

namespace winnow {

class SecondMoments {
 public:
  static constexpr int kTile = 64;

  SecondMoments() = default;
  SecondMoments(Ledger& ledger, int cols);
  // Adds the tokens of x [tokens, stride]. The result does not depend on threads.
  void add(const float* x, int64_t stride, int tokens, ThreadPool& pool);

  // Those of the channels `kept` [count] alone.
  SecondMoments of(Ledger& ledger, std::span<const int> kept) const;

  // Those about the means of the inputs [cols]: C - tokens mean mean^T. An input whose deviations are no more than what f32 sums may be off by counts as
  // one that never varied: zero.
  SecondMoments centred(Ledger& ledger, std::span<const double> means) const;

  bool empty() const { return cols_ == 0; }
  int cols() const { return cols_; }
  int64_t tokens() const { return tokens_; }
  double meanDiagonal() const;  // over the inputs that were active; 1 when none was
  // out = x times the moments, in double; both [cols].
  void times(const double* x, double* out) const;
  // Sum over the tokens of x_i x_j.
  float at(int i, int j) const { return i <= j ? tile(i / kTile, j / kTile)[i % kTile * kTile + j % kTile] : at(j, i); }

 private:
  int tiles() const { return (cols_ + kTile - 1) / kTile; }
  float* tile(int row, int col) const {  // row <= col
    const int64_t before = int64_t{row} * tiles() - int64_t{row} * (row - 1) / 2;
    return sums_.as<float>() + (before + col - row) * kTile * kTile;
  }

  Buffer sums_;
  int cols_ = 0;
  int64_t tokens_ = 0;
  std::vector<float> rows_, columns_;  // [tokens, padded], [padded, tokens] of a call
};

}  // namespace winnow
