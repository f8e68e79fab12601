// SPDX-License-Identifier: GPL-3.0-or-later
// Magnitude pruning: the floor(ratio * numel) smallest |w| of the matrix become zero. The baseline that uses no data.
// Ties are broken by position (row-major), so the count is exact even on weights that lie on a coarse grid.
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "engine/prune/methods.h"

namespace winnow {
namespace {

uint32_t magnitudeBits(float w) { return std::bit_cast<uint32_t>(w) & 0x7fffffffu; }  // orders like |w|

class MagnitudePruner final : public Pruner {
 public:
  explicit MagnitudePruner(const PruneInput& input) : cols_(input.cols) {
    const int64_t numel = int64_t{input.rows} * input.cols;
    const int64_t target = static_cast<int64_t>(std::floor(input.ratio * static_cast<double>(numel)));
    if (target <= 0) return;
    active_ = true;
    // The target-th smallest magnitude by two passes over 16-bit digits: exact, no copy of the matrix.
    std::vector<int64_t> high(1 << 16), low(1 << 16);
    forEach(input, [&](int, uint32_t bits) { ++high[bits >> 16]; });
    int64_t below = 0;
    uint32_t digit = 0;
    while (below + high[digit] < target) below += high[digit++];
    forEach(input, [&](int, uint32_t bits) {
      if (bits >> 16 == digit) ++low[bits & 0xffff];
    });
    uint32_t rest = 0;
    while (below + low[rest] < target) below += low[rest++];
    threshold_ = digit << 16 | rest;
    // `below` weights lie under the threshold; the first (target - below) of those equal to it go too.
    tieQuota_.assign(static_cast<size_t>(input.rows), 0);
    std::vector<int64_t> ties(static_cast<size_t>(input.rows));
    forEach(input, [&](int row, uint32_t bits) { ties[static_cast<size_t>(row)] += bits == threshold_; });
    int64_t left = target - below;
    for (size_t row = 0; row < ties.size(); ++row) {
      tieQuota_[row] = std::min(left, ties[row]);
      left -= tieQuota_[row];
    }
  }

  void apply(float* rows, int firstRow, int count) const override {
    if (!active_) return;
    for (int r = 0; r < count; ++r) {
      int64_t quota = tieQuota_[static_cast<size_t>(firstRow + r)];
      float* row = rows + static_cast<int64_t>(r) * cols_;
      for (int c = 0; c < cols_; ++c) {
        const uint32_t bits = magnitudeBits(row[c]);
        if (bits < threshold_ || (bits == threshold_ && quota-- > 0)) row[c] = 0.0f;
      }
    }
  }

 private:
  template <class Visit>
  static void forEach(const PruneInput& input, Visit&& visit) {
    constexpr int kRows = 16;
    std::vector<float> rows(static_cast<size_t>(kRows) * static_cast<size_t>(input.cols));
    for (int row = 0; row < input.rows; row += kRows) {
      const int count = std::min(kRows, input.rows - row);
      input.decode(row, count, rows.data());
      for (int r = 0; r < count; ++r)
        for (int c = 0; c < input.cols; ++c) visit(row + r, magnitudeBits(rows[static_cast<size_t>(r) * static_cast<size_t>(input.cols) + static_cast<size_t>(c)]));
    }
  }

  int cols_;
  bool active_ = false;
  uint32_t threshold_ = 0;
  std::vector<int64_t> tieQuota_;  // [rows]
};

}  // namespace

std::unique_ptr<Pruner> prepareMagnitude(const PruneInput& input) { return std::make_unique<MagnitudePruner>(input); }

}  // namespace winnow
