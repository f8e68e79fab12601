// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/thresholds.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/cpu/isa.h"

namespace winnow {
namespace {

constexpr float kLargest = std::numeric_limits<float>::infinity();
constexpr size_t kSpare = 16;  // of a list of positions: kernels write whole registers

// Scores are not negative: their bits order like them.
uint32_t scoreBits(float weight, float factor) { return std::bit_cast<uint32_t>(std::fabs(weight) * factor); }
float scoreOf(uint32_t bits) { return std::bit_cast<float>(std::min(bits, std::bit_cast<uint32_t>(kLargest))); }

// Calls visit(thread, row, weights [cols], positions [cols + kSpare]) for every row, on all threads; both may be written.
template <class Visit>
void forEachRow(const PruneInput& input, Visit&& visit) {
  constexpr int kRows = 16;
  const auto cols = static_cast<size_t>(input.cols);
  std::atomic<int> next{0};
  const auto work = [&](int thread, int) {
    std::vector<float> rows(kRows * cols);
    std::vector<uint32_t> positions(cols + kSpare);
    for (int first; (first = next.fetch_add(kRows)) < input.rows;) {
      const int count = std::min(kRows, input.rows - first);
      input.decode(first, count, rows.data());
      for (int r = 0; r < count; ++r) visit(thread, first + r, rows.data() + static_cast<size_t>(r) * cols, positions.data());
    }
  };
  if (input.pool)
    input.pool->run(work);
  else
    work(0, 1);
}

int threadsOf(const PruneInput& input) { return input.pool ? input.pool->threads() : 1; }

class GroupPruner final : public Pruner {
 public:
  GroupPruner(const std::vector<float>& factors, const PrunePattern& pattern) : factors_(factors), pattern_(pattern) {}

  void apply(float* rows, int, int count) const override {
    const auto cols = static_cast<int>(factors_.size());
    std::vector<float> scores(static_cast<size_t>(pattern_.of));
    for (int r = 0; r < count; ++r)
      for (int first = 0; first < cols; first += pattern_.of) {
        float* group = rows + int64_t{r} * cols + first;
        const int n = std::min(pattern_.of, cols - first);
        for (int c = 0; c < n; ++c) scores[static_cast<size_t>(c)] = std::fabs(group[c]) * factors_[static_cast<size_t>(first + c)];
        zeroOfGroup(scores.data(), n, pattern_, [&](int c) { group[c] = 0.0f; });
      }
  }

 private:
  const std::vector<float>& factors_;
  PrunePattern pattern_;
};

// ---- within rows ----

// A threshold is a bin of 8 bits of exponent and 5 of mantissa; with the weights below it, in 32 bits.
class RowThresholds final : public PruneScores {
 public:
  static constexpr int kEntries = 32, kShift = 18, kCountBits = 19;

  RowThresholds(const PruneInput& input, std::vector<float> factors, Ledger& ledger)
      : cols_(input.cols), factors_(std::move(factors)),
        table_(ledger, MemoryTag::calibration, static_cast<size_t>(input.rows) * kEntries * sizeof(uint32_t)) {
    if (ledger.planning() || cols_ >= 1 << kCountBits) return;  // wider rows are put in order whole
    std::vector<std::vector<uint32_t>> bins(static_cast<size_t>(threadsOf(input)));
    forEachRow(input, [&](int thread, int row, const float* weights, uint32_t*) {
      auto& counts = bins[static_cast<size_t>(thread)];
      counts.assign(size_t{1} << (31 - kShift), 0);
      for (int c = 0; c < cols_; ++c) ++counts[scoreBits(weights[c], factors_[static_cast<size_t>(c)]) >> kShift];
      uint32_t* entries = table_.as<uint32_t>() + static_cast<size_t>(row) * kEntries;
      uint32_t below = 0, bin = 0;
      for (int i = 0; i < kEntries; ++i) {
        const auto wanted = static_cast<uint32_t>(int64_t{cols_} * i / kEntries);
        while (below + counts[bin] <= wanted && bin + 1 < counts.size()) below += counts[bin++];
        entries[i] = bin << kCountBits | below;
      }
    });
  }

  std::unique_ptr<Pruner> at(const PruneLevel& level, const PruneInput& input) const override;

  // The weights of a row that the ratio's threshold may lie among: scores in [from, last], with `below` weights under them.
  struct Bracket {
    float from = 0, last = kLargest;
    int below = 0;
  };
  Bracket bracket(int row, int perRow) const {
    const uint32_t* entries = table_.as<uint32_t>() + static_cast<size_t>(row) * kEntries;
    Bracket found;
    for (int i = 0; i < kEntries; ++i) {
      const uint32_t edge = entries[i] >> kCountBits << kShift;
      const auto below = static_cast<int>(entries[i] & ((1u << kCountBits) - 1));
      if (below > perRow) {
        found.last = scoreOf(edge - 1);  // the first entry has nothing below it, and `perRow` is not negative
        break;
      }
      found.from = scoreOf(edge);
      found.below = below;
    }
    return found;
  }
  const std::vector<float>& factors() const { return factors_; }

 private:
  int cols_;
  std::vector<float> factors_;  // [cols]
  Buffer table_;                // [rows, kEntries]
};

class RowPruner final : public Pruner {
 public:
  RowPruner(const RowThresholds& scores, int perRow) : scores_(scores), perRow_(perRow) {}

  void apply(float* rows, int firstRow, int count) const override {
    if (perRow_ <= 0) return;
    const std::vector<float>& factors = scores_.factors();
    const size_t cols = factors.size();
    const auto candidates = std::make_unique_for_overwrite<uint32_t[]>(cols + kSpare);
    std::vector<uint64_t> ordered;
    for (int r = 0; r < count; ++r) {
      float* row = rows + static_cast<size_t>(r) * cols;
      const RowThresholds::Bracket bracket = scores_.bracket(firstRow + r, perRow_);
      const auto found = static_cast<size_t>(
          cpu::bestKernels().pruneBelow(row, factors.data(), static_cast<int>(cols), bracket.from, bracket.last, candidates.get()));
      const auto more = static_cast<size_t>(perRow_ - bracket.below);
      if (more == 0) continue;
      ordered.clear();
      for (size_t i = 0; i < found; ++i) ordered.push_back(uint64_t{scoreBits(row[candidates[i]], factors[candidates[i]])} << 32 | candidates[i]);
      if (more < found) std::nth_element(ordered.begin(), ordered.begin() + static_cast<std::ptrdiff_t>(more), ordered.end());
      for (size_t i = 0; i < std::min(more, found); ++i) row[static_cast<uint32_t>(ordered[i])] = 0.0f;
    }
  }

 private:
  const RowThresholds& scores_;
  int perRow_;
};

std::unique_ptr<Pruner> RowThresholds::at(const PruneLevel& level, const PruneInput&) const {
  if (level.pattern.grouped()) return std::make_unique<GroupPruner>(factors_, level.pattern);
  return std::make_unique<RowPruner>(*this, static_cast<int>(std::floor(level.ratio * cols_)));
}

// ---- within the matrix ----

// Where the n-th smallest score lies: scores below `threshold` go, and the first tieQuota[row] of each row that equal it.
class MatrixPruner final : public Pruner {
 public:
  MatrixPruner(const std::vector<float>& factors, float threshold, std::vector<int64_t> tieQuota)
      : factors_(factors), threshold_(threshold), tieQuota_(std::move(tieQuota)) {}

  void apply(float* rows, int firstRow, int count) const override {
    const size_t cols = factors_.size();
    const auto ties = std::make_unique_for_overwrite<uint32_t[]>(cols + kSpare);
    for (int r = 0; r < count; ++r) {
      float* row = rows + static_cast<size_t>(r) * cols;
      const int found = cpu::bestKernels().pruneBelow(row, factors_.data(), static_cast<int>(cols), threshold_, threshold_, ties.get());
      const int64_t quota = tieQuota_.empty() ? 0 : tieQuota_[static_cast<size_t>(firstRow + r)];
      for (int64_t i = 0; i < std::min<int64_t>(quota, found); ++i) row[ties[static_cast<size_t>(i)]] = 0.0f;
    }
  }

 private:
  const std::vector<float>& factors_;
  float threshold_;
  std::vector<int64_t> tieQuota_;  // [rows]; empty = nothing goes
};

// How many weights have each value of the score's upper 16 bits; the lower ones are counted where a ratio falls.
class MatrixThresholds final : public PruneScores {
 public:
  MatrixThresholds(const PruneInput& input, std::vector<float> factors, Ledger& ledger)
      : factors_(std::move(factors)), counts_(ledger, MemoryTag::calibration, kBins * sizeof(uint32_t)) {
    if (ledger.planning()) return;
    std::vector<std::vector<uint32_t>> bins(static_cast<size_t>(threadsOf(input)), std::vector<uint32_t>(kBins));
    forEachRow(input, [&](int thread, int, const float* weights, uint32_t*) {
      auto& counts = bins[static_cast<size_t>(thread)];
      for (int c = 0; c < input.cols; ++c) ++counts[scoreBits(weights[c], factors_[static_cast<size_t>(c)]) >> 16];
    });
    for (const auto& counts : bins)
      for (size_t bin = 0; bin < kBins; ++bin) counts_.as<uint32_t>()[bin] += counts[bin];
  }

  std::unique_ptr<Pruner> at(const PruneLevel& level, const PruneInput& input) const override {
    if (level.pattern.grouped()) return std::make_unique<GroupPruner>(factors_, level.pattern);
    const auto target = static_cast<int64_t>(std::floor(level.ratio * static_cast<double>(int64_t{input.rows} * input.cols)));
    if (target <= 0) return std::make_unique<MatrixPruner>(factors_, 0.0f, std::vector<int64_t>());
    int64_t below = 0;
    uint32_t digit = 0;
    while (below + counts_.as<uint32_t>()[digit] < target) below += counts_.as<uint32_t>()[digit++];

    const Lower lower = countLower(input, digit);
    uint32_t rest = 0;
    while (below + lower.counts[rest] < target) below += lower.counts[rest++];
    std::vector<int64_t> quota = lower.counts[rest] == counts_.as<uint32_t>()[digit] ? lower.inBin : ties(input, digit << 16 | rest);
    int64_t left = target - below;  // `below` lie under the threshold
    for (int64_t& row : quota) {
      row = std::min(left, row);
      left -= row;
    }
    return std::make_unique<MatrixPruner>(factors_, scoreOf(digit << 16 | rest), std::move(quota));
  }

 private:
  static constexpr size_t kBins = 1 << 15;
  struct Lower {
    std::vector<int64_t> counts;  // [65536] of the lower 16 bits
    std::vector<int64_t> inBin;   // [rows]
  };

  Lower countLower(const PruneInput& input, uint32_t digit) const {
    constexpr size_t kLower = 1 << 16;
    std::vector<std::vector<int64_t>> counts(static_cast<size_t>(threadsOf(input)), std::vector<int64_t>(kLower));
    Lower out{std::vector<int64_t>(kLower), std::vector<int64_t>(static_cast<size_t>(input.rows))};
    forEachRow(input, [&](int thread, int row, float* weights, uint32_t* positions) {
      const int found = within(weights, digit << 16, digit << 16 | 0xffff, positions);
      out.inBin[static_cast<size_t>(row)] = found;
      for (int i = 0; i < found; ++i)
        ++counts[static_cast<size_t>(thread)][scoreBits(weights[positions[i]], factors_[positions[i]]) & 0xffff];
    });
    for (const auto& each : counts)
      for (size_t i = 0; i < kLower; ++i) out.counts[i] += each[i];
    return out;
  }

  std::vector<int64_t> ties(const PruneInput& input, uint32_t threshold) const {
    std::vector<int64_t> out(static_cast<size_t>(input.rows));
    forEachRow(input, [&](int, int row, float* weights, uint32_t* positions) { out[static_cast<size_t>(row)] = within(weights, threshold, threshold, positions); });
    return out;
  }

  // Positions of the scores in [from, last], as bits. Zeroes weights under them, which are only a copy.
  int within(float* weights, uint32_t from, uint32_t last, uint32_t* positions) const {
    return cpu::bestKernels().pruneBelow(weights, factors_.data(), static_cast<int>(factors_.size()), scoreOf(from), scoreOf(last), positions);
  }

  std::vector<float> factors_;  // [cols]
  Buffer counts_;               // [kBins]
};

}  // namespace

std::unique_ptr<PruneScores> prepareThresholds(const PruneInput& input, std::vector<float> factors, Ledger& ledger) {
  if (input.scope == PruneScope::matrix) return std::make_unique<MatrixThresholds>(input, std::move(factors), ledger);
  return std::make_unique<RowThresholds>(input, std::move(factors), ledger);
}

}  // namespace winnow
