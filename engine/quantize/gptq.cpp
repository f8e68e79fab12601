// SPDX-License-Identifier: GPL-3.0-or-later
// GPTQ (Frantar et al., ICLR 2023): columns are rounded one after the other, and what a column is off by is made up for in those that follow,
// with the inverse second moments of the inputs: e_j = (w_j - q_j) / U_jj, w_k -= e_j U_jk. Rows are independent, so tiles are.
// Grids are those of round to nearest. In the order of the columns they are fitted to what a group has become when it is reached (static
// groups: to the original weights, as always where the order is another). Inputs that were never active are rounded alone.
#include <algorithm>
#include <vector>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/quantize/grid.h"
#include "engine/quantize/methods.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows, kBlock = 128;  // a multiple of every group but the whole row

// One tile: 16 rows of weights, by position in the order of the factor.
class Tile {
 public:
  Tile(const float* rows, int count, int tile, const MethodInput& input, Matrix& out)
      : rows_(rows), count_(count), tile_(tile), cols_(out.cols), input_(input), factor_(*input.factor), out_(out),
        staticGroups_(input.options.staticGroups || !factor_.order().empty()), w_(static_cast<size_t>(kTile) * static_cast<size_t>(cols_)),
        errors_(static_cast<size_t>(kTile) * kBlock), q_(w_.size()) {
    CHECK(factor_.cols() == cols_, factor_.cols(), cols_);
    for (int r = 0; r < count_; ++r)
      for (int p = 0; p < cols_; ++p) at(r, p) = rows_[int64_t{r} * cols_ + column(p)];
    if (staticGroups_) fitGrids(rows_, cols_, 0, cols_);
  }

  void run() {
    for (int begin = 0; begin < cols_; begin += kBlock) {
      const int end = std::min(begin + kBlock, cols_);
      for (int p = begin; p < end; ++p) roundColumn(p, begin, end);
      if (end < cols_) carryOver(begin, end);
    }
    packTile(out_, tile_, q_.data());
  }

 private:
  int column(int position) const { return factor_.order().empty() ? position : factor_.order()[static_cast<size_t>(position)]; }
  float& at(int r, int p) { return w_[static_cast<size_t>(r) * static_cast<size_t>(cols_) + static_cast<size_t>(p)]; }
  GridPlace gridAt(int r, int group) const { return gridPlace(out_, tile_ * kTile + r, group); }

  // Scales and minimums of the groups of columns [begin, end), from rows whose first column is `begin`.
  void fitGrids(const float* from, int64_t stride, int begin, int end) {
    std::vector<uint8_t> unused(static_cast<size_t>(end - begin));
    for (int r = 0; r < count_; ++r) roundRow(out_.format, from + r * stride, end - begin, unused.data(), gridAt(r, begin / out_.format.groupCols(cols_)));
  }

  void roundColumn(int p, int begin, int end) {
    const WeightFormat& f = out_.format;
    const int c = column(p), group = f.groupCols(cols_);
    if (!staticGroups_ && c % group == 0) fitGrids(&at(0, p), cols_, c, std::min(c + group, cols_));
    const float* u = factor_.row(p);
    for (int r = 0; r < count_; ++r) {
      const Grid grid(f, gridAt(r, c / group));
      const float w = at(r, p);
      // What pruning zeroed stays zero where there is a code for it; the columns that follow make up for what it would have gained.
      const bool pruned = f.symmetric && rows_[int64_t{r} * cols_ + c] == 0;
      const uint8_t code = pruned ? static_cast<uint8_t>(f.zeroCode()) : grid.nearest(w);
      q_[static_cast<size_t>(r) * static_cast<size_t>(cols_) + static_cast<size_t>(c)] = code;
      const float error = (w - grid.value(code)) / u[p];
      errors_[static_cast<size_t>(r * kBlock + p - begin)] = -error;
      if (p + 1 < end) cpu::bestKernels().addScaled(&at(r, p) + 1, u + p + 1, end - p - 1, -error);
    }
  }

  // The errors of a block to all columns behind it.
  void carryOver(int begin, int end) {
    const int rest = cols_ - end, whole = rest / 16 * 16;
    const float* u = factor_.row(begin);
    if (whole > 0)
      cpu::bestKernels().smallProduct(errors_.data(), kBlock, u + end, cols_, count_, end - begin, whole, &at(0, end), cols_, true);
    for (int r = 0; r < count_; ++r)
      for (int p = end + whole; p < cols_; ++p) {
        float sum = at(r, p);
        for (int j = 0; j < end - begin; ++j) sum += errors_[static_cast<size_t>(r * kBlock + j)] * u[int64_t{j} * cols_ + p];
        at(r, p) = sum;
      }
  }

  const float* rows_;
  const int count_, tile_, cols_;
  const MethodInput& input_;
  const InverseFactor& factor_;
  Matrix& out_;
  const bool staticGroups_;
  std::vector<float> w_;       // [16, cols]
  std::vector<float> errors_;  // [16, block], negative
  std::vector<uint8_t> q_;     // [16, cols] by column
};

}  // namespace

void quantizeGptq(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out) {
  if (!input.factor) return quantizeRtn(rows, firstRow, count, input, out);  // embeddings and the head
  CHECK(firstRow % kTile == 0 && firstRow + count <= out.rows, firstRow, count);
  for (int first = 0; first < count; first += kTile)
    Tile(rows + int64_t{first} * out.cols, std::min(kTile, count - first), (firstRow + first) / kTile, input, out).run();
}

}  // namespace winnow
