// SPDX-License-Identifier: GPL-3.0-or-later
// LLM-Barber (Su et al. 2024 (arXiv 2408.10631), section 3): the mask of another method is corrected where pruned weights matter more than kept
// ones once everything around them is pruned as well. The metric is |w| times the root mean square of the gradient of the reconstruction
// error of the whole attention or feed-forward (BlockGradients). Weights change places within a row, or within the matrix. Of a grouped
// pattern those of a row come back, and for each the least of its group goes where that matters less. Kept weights have their dense values.
// All blocks are judged in the model as the first mask leaves it: the paper goes from block to block.
#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/core/check.h"
#include "engine/prune/made_rows.h"
#include "engine/prune/methods.h"
#include "engine/prune/swap.h"

namespace winnow {
namespace {

class MaskPruner final : public Pruner {
 public:
  MaskPruner(std::vector<uint8_t> gone, int cols) : gone_(std::move(gone)), cols_(static_cast<size_t>(cols)) {}
  void apply(float* rows, int firstRow, int count) const override {
    const uint8_t* gone = gone_.data() + static_cast<size_t>(firstRow) * cols_;
    for (size_t i = 0; i < static_cast<size_t>(count) * cols_; ++i) rows[i] = gone[i] ? 0.0f : rows[i];
  }

 private:
  std::vector<uint8_t> gone_;  // [rows, cols]
  size_t cols_;
};

// Swaps among `count` weights with a metric that is not negative, of which those `gone` are pruned. Ties go by position.
class Swapper {
 public:
  Swapper(const float* metric, uint8_t* gone, size_t count, double share) : gone_(gone) {
    CHECK(count <= UINT32_MAX, count);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t bits = std::bit_cast<uint32_t>(metric[i]);
      if (gone[i])
        pruned_.push_back((~bits & UINT32_MAX) << 32 | i);
      else
        kept_.push_back(bits << 32 | i);
    }
    std::sort(pruned_.begin(), pruned_.end());
    std::sort(kept_.begin(), kept_.end());
    std::vector<float> falling(pruned_.size()), rising(kept_.size());
    for (size_t i = 0; i < falling.size(); ++i) falling[i] = metric[at(pruned_[i])];
    for (size_t i = 0; i < rising.size(); ++i) rising[i] = metric[at(kept_[i])];
    found_ = swapThresholds(falling, rising, share);
    while (come_ < found_.index && falling[come_] > found_.grow) ++come_;
    while (go_ < found_.index && rising[go_] < found_.prune) ++go_;
  }
  // As many come back as go.
  void swap() {
    for (size_t i = 0; i < std::min(come_, go_); ++i) std::swap(gone_[at(pruned_[i])], gone_[at(kept_[i])]);
  }
  void swapInGroups(const float* metric, size_t group, size_t count) {
    std::vector<uint8_t> back(count);
    for (size_t i = 0; i < come_; ++i) {
      const size_t comes = at(pruned_[i]), first = comes / group * group;
      size_t least = comes;
      for (size_t c = first; c < std::min(first + group, count); ++c)
        if (!gone_[c] && !back[c] && metric[c] < metric[least]) least = c;
      if (least == comes) continue;
      std::swap(gone_[comes], gone_[least]);
      back[comes] = 1;
    }
  }

 private:
  static size_t at(uint64_t key) { return key & UINT32_MAX; }
  uint8_t* gone_;
  std::vector<uint64_t> pruned_, kept_;  // metric, place: by falling and by rising metric
  SwapThresholds found_;
  size_t come_ = 0, go_ = 0;  // how many lie beyond the thresholds
};

// What the first method was prepared from, and is asked with.
PruneInput ofInitial(const PruneInput& input) {
  PruneInput out = input;
  out.initial = nullptr;
  return out;
}

class BarberScores final : public PruneScores {
 public:
  explicit BarberScores(std::unique_ptr<PruneScores> initial) : initial_(std::move(initial)) {}

  std::unique_ptr<Pruner> at(const PruneLevel& level, const PruneInput& input) const override {
    const auto cols = static_cast<size_t>(input.cols), total = static_cast<size_t>(input.rows) * cols;
    const std::span<const float> squares = input.statistics.gradientSquares;
    CHECK(squares.size() == total, squares.size(), total);
    const bool grouped = level.pattern.grouped(), whole = !grouped && input.scope == PruneScope::matrix;
    std::vector<float> metric(total);
    std::vector<uint8_t> gone(total);
    const auto first = initial_->at(level, ofInitial(input));
    forRowsOf(input, [&](int row, int count) {
      const size_t from = static_cast<size_t>(row) * cols, values = static_cast<size_t>(count) * cols;
      std::vector<float> weights(values);
      input.decode(row, count, weights.data());
      for (size_t i = 0; i < values; ++i) metric[from + i] = std::fabs(weights[i]) * std::sqrt(squares[from + i]);
      first->apply(weights.data(), row, count);
      for (size_t i = 0; i < values; ++i) gone[from + i] = weights[i] == 0.0f;
      for (size_t begin = from; !whole && begin < from + values; begin += cols) {
        Swapper swapper(metric.data() + begin, gone.data() + begin, cols, input.swapShare);
        if (grouped)
          swapper.swapInGroups(metric.data() + begin, static_cast<size_t>(level.pattern.of), cols);
        else
          swapper.swap();
      }
    });
    if (whole) Swapper(metric.data(), gone.data(), total, input.swapShare).swap();
    return std::make_unique<MaskPruner>(std::move(gone), input.cols);
  }

 private:
  std::unique_ptr<PruneScores> initial_;
};

}  // namespace

SwapThresholds swapThresholds(std::span<const float> pruned, std::span<const float> kept, double share) {
  const size_t length = std::min(pruned.size(), kept.size());
  if (length == 0) return {};
  size_t above = 0;
  while (above < length && pruned[above] > kept[above]) ++above;
  const size_t index = std::min(static_cast<size_t>(std::floor(share * static_cast<double>(above))), length - 1);
  return {index, pruned[index], kept[index]};
}

std::unique_ptr<PruneScores> prepareBarber(const PruneInput& input, Ledger& ledger) {
  CHECK(input.initial && !input.initial->needs.gradients, "no method for the first mask");
  return std::make_unique<BarberScores>(input.initial->prepare(ofInitial(input), ledger));
}

}  // namespace winnow
