// SPDX-License-Identifier: GPL-3.0-or-later
// SparseGPT (Frantar and Alistarh, ICML 2023): column after column, what a pruned weight contributed is made up for by the columns to its
// right, through the upper factor U of the inverse of the inputs' second moments. Masks are chosen per block of 128 columns, all rows together,
// by w^2 / U_jj^2 of the weights as they are then; grouped patterns at each group, row by row. Inputs that were never active lose their weights.
#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/prune/made_rows.h"
#include "engine/prune/methods.h"
#include "engine/prune/thresholds.h"

namespace winnow {
namespace {

constexpr int kBlock = 128;  // columns; a multiple of every pattern's group

class SparseGpt {
 public:
  SparseGpt(const PruneLevel& level, const PruneInput& input)
      : level_(level), input_(input), factor_(*input.statistics.factor), weights_(static_cast<size_t>(input.rows) * static_cast<size_t>(input.cols)) {
    CHECK(factor_.cols() == input.cols && factor_.order().empty(), factor_.cols(), input.cols);
  }

  std::vector<float> run() {
    forRows([&](int first, int count) { input_.decode(first, count, row(first)); });
    forRows([&](int first, int count) {
      for (int r = first; r < first + count; ++r)
        for (const int dead : factor_.dead()) row(r)[dead] = 0;
    });
    for (int begin = 0; begin < input_.cols; begin += kBlock) {
      const int end = std::min(begin + kBlock, input_.cols);
      if (!level_.pattern.grouped()) choose(begin, end);
      forRows([&](int first, int count) { prune(first, count, begin, end); });
    }
    return std::move(weights_);
  }

 private:
  float* row(int r) { return weights_.data() + static_cast<size_t>(r) * static_cast<size_t>(input_.cols); }

  template <class Work>
  void forRows(Work&& work) const {
    forRowsOf(input_, std::forward<Work>(work));
  }

  // The weights of a block that go: as many as bring the columns up to its end to the ratio.
  void choose(int begin, int end) {
    const auto upTo = [&](int column) { return static_cast<int64_t>(std::floor(level_.ratio * static_cast<double>(int64_t{input_.rows} * column))); };
    const auto width = static_cast<size_t>(end - begin), total = static_cast<size_t>(input_.rows) * width;
    const auto target = static_cast<size_t>(upTo(end) - upTo(begin));
    goes_.assign(total, 0);
    if (target == 0) return;
    order_.resize(total);
    forRows([&](int first, int count) {
      for (int r = first; r < first + count; ++r)
        for (int c = begin; c < end; ++c) {
          const float score = row(r)[c] / factor_.row(c)[c];
          const size_t at = static_cast<size_t>(r) * width + static_cast<size_t>(c - begin);
          order_[at] = uint64_t{std::bit_cast<uint32_t>(score) & 0x7fffffffu} << 32 | at;
        }
    });
    std::nth_element(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(target - 1), order_.end());
    for (size_t i = 0; i < target; ++i) goes_[order_[i] & 0xffffffffu] = 1;
  }

  void chooseGroup(const float* w, int column, int count, uint8_t* goes) const {
    float scores[8];
    for (int c = 0; c < count; ++c) scores[c] = std::fabs(w[column + c] / factor_.row(column + c)[column + c]);
    std::fill_n(goes, count, uint8_t{0});
    zeroOfGroup(scores, count, level_.pattern, [&](int c) { goes[c] = 1; });
  }

  void prune(int first, int count, int begin, int end) {
    const int width = end - begin, group = level_.pattern.of;
    uint8_t chosen[kBlock] = {};
    float errors[kBlock];
    for (int r = first; r < first + count; ++r) {
      float* w = row(r);
      const uint8_t* goes = group > 0 ? chosen : goes_.data() + static_cast<size_t>(r) * static_cast<size_t>(width);
      for (int c = begin; c < end; ++c) {
        const int i = c - begin;
        if (group > 0 && i % group == 0) chooseGroup(w, c, std::min(group, end - c), chosen + i);
        errors[i] = 0;
        if (!goes[i]) continue;
        const float* u = factor_.row(c);
        errors[i] = w[c] / u[c];
        w[c] = 0;
        for (int k = c + 1; k < end; ++k) w[k] -= errors[i] * u[k];
      }
      for (int i = 0; i < width; ++i)
        if (errors[i] != 0) cpu::bestKernels().addScaled(w + end, factor_.row(begin + i) + end, input_.cols - end, -errors[i]);
    }
  }

  const PruneLevel& level_;
  const PruneInput& input_;
  const InverseFactor& factor_;
  std::vector<float> weights_;    // [rows, cols]
  std::vector<uint64_t> order_;   // of a block: score, place
  std::vector<uint8_t> goes_;     // [rows, columns of the block]
};

// The weights change with the ratio: nothing is known for all of them but the factor, which is prepared for each layer's input anew.
class SparseGptScores final : public PruneScores {
 public:
  std::unique_ptr<Pruner> at(const PruneLevel& level, const PruneInput& input) const override {
    return std::make_unique<MadeRows>(SparseGpt(level, input).run(), input.cols);
  }
};

}  // namespace

std::unique_ptr<PruneScores> prepareSparseGpt(const PruneInput&, Ledger&) { return std::make_unique<SparseGptScores>(); }

}  // namespace winnow
