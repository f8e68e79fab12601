// SPDX-License-Identifier: GPL-3.0-or-later
// Worked numbers: pruning_sharing_attribution.md C1, C2, L3.
#include "tests/support/check.h"

#include <algorithm>
#include <random>

#include "engine/core/check.h"
#include "engine/prune/method.h"
#include "engine/weights/calibration.h"

using namespace winnow;

namespace {
struct Toy {
  int rows, cols;
  std::vector<float> w;
  Toy(int r, int c, uint32_t seed = 1) : rows(r), cols(c), w(static_cast<size_t>(r * c)) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    for (float& x : w) x = normal(rng);
  }
  std::vector<float> pruned(const char* method, double ratio, std::vector<float> norms = {}) const {
    PruneInput input;
    input.rows = rows;
    input.cols = cols;
    input.ratio = ratio;
    input.statistics.columnNorms = norms;
    input.decode = [this](int row, int count, float* out) { std::copy_n(w.data() + row * cols, count * cols, out); };
    const auto pruner = findPruneMethod(method)->prepare(input);
    std::vector<float> out = w;
    for (int row = 0; row < rows; row += 16) pruner->apply(out.data() + row * cols, row, std::min(16, rows - row));
    return out;
  }
};
int64_t zeros(const std::vector<float>& w) { return std::count(w.begin(), w.end(), 0.0f); }
}  // namespace

TEST(magnitude_removes_exactly_the_smallest) {
  const Toy toy(37, 45);
  for (double ratio : {0.0, 0.1, 0.5, 0.9}) {
    const auto out = toy.pruned("magnitude", ratio);
    EXPECT_EQ(zeros(out), static_cast<int64_t>(ratio * 37 * 45));
    float largestGone = 0, smallestKept = 1e9f;
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i] == 0)
        largestGone = std::max(largestGone, std::fabs(toy.w[i]));
      else
        smallestKept = std::min(smallestKept, std::fabs(toy.w[i]));
    }
    EXPECT(largestGone <= smallestKept, ratio, largestGone, smallestKept);
  }
}

TEST(magnitude_counts_exactly_on_a_coarse_grid) {
  Toy toy(20, 32);
  for (float& x : toy.w) x = std::round(x * 2) + (x < 0 ? -0.5f : 0.5f);  // many ties, no zeros
  EXPECT_EQ(zeros(toy.pruned("magnitude", 0.37)), static_cast<int64_t>(0.37 * 640));
}

TEST(magnitude_mask_does_not_depend_on_scale) {
  Toy toy(16, 64);
  const auto small = toy.pruned("magnitude", 0.5);
  for (float& x : toy.w) x *= 8;
  const auto large = toy.pruned("magnitude", 0.5);
  for (size_t i = 0; i < small.size(); ++i) EXPECT_EQ(small[i] * 8, large[i]);
}

TEST(wanda_worked_row) {
  Toy toy(1, 4);
  toy.w = {2, -1.5f, .6f, .9f};
  const auto out = toy.pruned("wanda", 0.5, {1.7578395831f, .9539392014f, 8.8881944173f, 1.4282856857f});
  EXPECT(out == (std::vector<float>{2, 0, .6f, 0}));
  const auto magnitude = toy.pruned("magnitude", 0.5);
  EXPECT(magnitude == (std::vector<float>{2, -1.5f, 0, 0}));
}

TEST(wanda_prunes_every_row_alike_and_ignores_other_rows) {
  const Toy toy(33, 50);
  std::vector<float> norms(50);
  for (size_t i = 0; i < norms.size(); ++i) norms[i] = 0.1f + static_cast<float>(i * i % 17);
  const auto out = toy.pruned("wanda", 0.3, norms);
  for (int row = 0; row < 33; ++row) EXPECT_EQ(std::count(out.begin() + row * 50, out.begin() + row * 50 + 50, 0.0f), 15);
  Toy changed = toy;
  for (int c = 0; c < 50; ++c) changed.w[static_cast<size_t>(c)] = 1;
  const auto other = changed.pruned("wanda", 0.3, norms);
  EXPECT(std::equal(out.begin() + 50, out.end(), other.begin() + 50));
}

TEST(wanda_with_equal_norms_is_row_wise_magnitude) {
  const Toy toy(1, 100);
  EXPECT(toy.pruned("wanda", 0.4, std::vector<float>(100, 3.0f)) == toy.pruned("magnitude", 0.4));
}

TEST(calibration_norms_are_column_norms_of_all_tokens) {
  const float x[6][4] = {{1, .2f, 4, .5f}, {.5f, -.3f, 3, -.5f}, {-1, .4f, -5, .5f}, {.8f, .1f, 4, -.5f}, {-.2f, -.5f, 2, 1}, {.4f, .6f, -3, .2f}};
  ModelConfig model;
  model.layers = 2;
  model.hidden = 4;
  Ledger ledger;
  Calibration calibration(model, ledger);
  calibration.take(1, LinearInput::ffn, &x[0][0], 4, 4, 4);
  calibration.take(1, LinearInput::ffn, &x[4][0], 4, 2, 4);
  const auto norms = calibration.columnNorms(1, LinearInput::ffn);
  const double expected[] = {1.7578395831, .9539392014, 8.8881944173, 1.4282856857};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(norms[i], expected[i], 1e-6 * expected[i]);
}
