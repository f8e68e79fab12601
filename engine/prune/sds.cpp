// SPDX-License-Identifier: GPL-3.0-or-later
// Sparse-Dense-Sparse (Li et al., COLING 2025 (arXiv 2408.10473)): what another method pruned gets weights again, as far as that repairs the
// output and they stay small, and is pruned a second time by the same method. The paper's weights of the terms are not published where they
// could be read; these are calibration.damping on changes of kept weights and ten times that on the ones that come back. Inputs are those of
// the dense model, as for the other methods here: the paper distils from layer to layer.
#include "engine/prune/sds.h"

#include <algorithm>

#include "engine/core/check.h"
#include "engine/core/memory.h"
#include "engine/prune/made_rows.h"
#include "engine/prune/methods.h"

namespace winnow {
namespace {

constexpr double kPrunedOverKept = 10;

using Prepare = std::unique_ptr<PruneScores> (*)(const PruneInput&, Ledger&);

class SdsScores final : public PruneScores {
 public:
  SdsScores(Prepare prepare, std::unique_ptr<PruneScores> first) : prepare_(prepare), first_(std::move(first)) {}

  std::unique_ptr<Pruner> at(const PruneLevel& level, const PruneInput& input) const override {
    const auto cols = static_cast<size_t>(input.cols);
    std::vector<float> all(static_cast<size_t>(input.rows) * cols);
    const auto from = [&](int row) { return all.data() + static_cast<size_t>(row) * cols; };
    {
      const DenseSquare moments = DenseSquare::ofMoments(*input.statistics.moments);
      const DenseSquare inverse = DenseSquare::ofInverse(*input.statistics.factor, *input.statistics.moments, input.pool);
      const double kept = input.statistics.factor->damping();
      const Redensify redensify{moments, inverse, kPrunedOverKept * kept, kept};
      const auto pruner = first_->at(level, input);
      forRowsOf(input, [&](int row, int count) {
        std::vector<float> dense(static_cast<size_t>(count) * cols);
        input.decode(row, count, dense.data());
        std::copy(dense.begin(), dense.end(), from(row));
        pruner->apply(from(row), row, count);
        redensify(dense.data(), from(row), count);
      });
    }
    const std::vector<float> between = all;
    PruneInput again = input;
    again.decode = [&](int row, int count, float* out) { std::copy_n(between.data() + static_cast<size_t>(row) * cols, static_cast<size_t>(count) * cols, out); };
    Ledger uncounted;  // for a moment
    const auto scores = prepare_(again, uncounted);
    const auto pruner = scores->at(level, again);
    forRowsOf(again, [&](int row, int count) { pruner->apply(from(row), row, count); });
    return std::make_unique<MadeRows>(std::move(all), input.cols);
  }

 private:
  Prepare prepare_;
  std::unique_ptr<PruneScores> first_;
};

std::unique_ptr<PruneScores> prepareBoth(Prepare prepare, const PruneInput& input, Ledger& ledger) {
  return std::make_unique<SdsScores>(prepare, prepare(input, ledger));
}

double dot(const float* a, const float* b, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace

// With d what is added to the sparse row: (C + diag) d = C (dense - sparse)^T, preconditioned by the inverse.
void Redensify::operator()(const float* dense, float* sparse, int count) const {
  const int cols = moments.cols(), stride = moments.stride();
  const size_t values = static_cast<size_t>(count) * static_cast<size_t>(stride);
  std::vector<float> diagonal(values), residual(values), solved(values), direction(values), product(values), added(values);
  for (int r = 0; r < count; ++r)
    for (int c = 0; c < cols; ++c) {
      const float from = dense[int64_t{r} * cols + c], to = sparse[int64_t{r} * cols + c];
      direction[static_cast<size_t>(r * stride + c)] = from - to;
      diagonal[static_cast<size_t>(r * stride + c)] = static_cast<float>(to == 0 ? pruned : kept);
    }
  moments.times(direction.data(), count, residual.data());
  std::fill(direction.begin(), direction.end(), 0.0f);
  std::vector<double> size(static_cast<size_t>(count));  // residual times solved, of each row
  for (int step = 0; step < steps; ++step) {
    inverse.times(residual.data(), count, solved.data());
    for (int r = 0; r < count; ++r) {
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(stride);
      const double now = dot(&residual[at], &solved[at], cols), before = std::exchange(size[static_cast<size_t>(r)], now);
      const auto keep = static_cast<float>(step > 0 && before > 0 ? now / before : 0);
      for (int c = 0; c < cols; ++c) direction[at + static_cast<size_t>(c)] = solved[at + static_cast<size_t>(c)] + keep * direction[at + static_cast<size_t>(c)];
    }
    moments.times(direction.data(), count, product.data());
    for (int r = 0; r < count; ++r) {
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(stride);
      for (int c = 0; c < cols; ++c) product[at + static_cast<size_t>(c)] += diagonal[at + static_cast<size_t>(c)] * direction[at + static_cast<size_t>(c)];
      const double along = dot(&direction[at], &product[at], cols);
      if (!(along > 0)) continue;  // solved, or nothing to solve
      const auto length = static_cast<float>(size[static_cast<size_t>(r)] / along);
      for (size_t c = at; c < at + static_cast<size_t>(cols); ++c) {
        added[c] += length * direction[c];
        residual[c] -= length * product[c];
      }
    }
  }
  for (int r = 0; r < count; ++r)
    for (int c = 0; c < cols; ++c) sparse[int64_t{r} * cols + c] += added[static_cast<size_t>(r * stride + c)];
}

std::unique_ptr<PruneScores> prepareSds(const PruneInput& input, Ledger& ledger) { return prepareBoth(prepareSparseGpt, input, ledger); }
std::unique_ptr<PruneScores> prepareSdsWanda(const PruneInput& input, Ledger& ledger) { return prepareBoth(prepareWanda, input, ledger); }

}  // namespace winnow
