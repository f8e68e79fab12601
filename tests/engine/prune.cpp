// SPDX-License-Identifier: GPL-3.0-or-later
// Worked numbers: pruning_sharing_attribution.md C1, C2, L3.
#include "tests/support/check.h"

#include <algorithm>
#include <random>

#include "engine/core/check.h"
#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/prune/method.h"
#include "engine/quantize/method.h"
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
  PruneInput input(const char* method, std::span<const float> norms = {}) const {
    PruneInput in;
    in.rows = rows;
    in.cols = cols;
    in.scope = findPruneMethod(method)->scope;
    in.statistics.columnNorms = norms;
    in.decode = [this](int row, int count, float* out) { std::copy_n(w.data() + row * cols, count * cols, out); };
    return in;
  }
  std::vector<float> applied(const Pruner& pruner) const {
    std::vector<float> out = w;
    for (int row = 0; row < rows; row += 16) pruner.apply(out.data() + row * cols, row, std::min(16, rows - row));
    return out;
  }
  std::vector<float> pruned(const char* method, double ratio, std::vector<float> norms = {}, const char* pattern = "unstructured") const {
    Ledger ledger;
    const PruneInput in = input(method, norms);
    const auto scores = findPruneMethod(method)->prepare(in, ledger);
    return applied(*scores->at({ratio, parsePattern(pattern)}, in));
  }
};
int64_t zeros(const std::vector<float>& w) { return std::count(w.begin(), w.end(), 0.0f); }
}  // namespace

// The same by putting all scores in order.
static std::vector<float> byOrder(const Toy& toy, const std::vector<float>& factors, int perGroup, double ratio) {
  std::vector<float> out = toy.w;
  for (size_t first = 0; first < out.size(); first += static_cast<size_t>(perGroup)) {
    std::vector<std::pair<float, size_t>> order;
    for (size_t i = first; i < first + static_cast<size_t>(perGroup); ++i) order.push_back({std::fabs(toy.w[i]) * factors[i % factors.size()], i});
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < static_cast<size_t>(ratio * perGroup); ++i) out[order[i].second] = 0;
  }
  return out;
}

TEST(thresholds_find_what_an_order_finds_at_every_ratio) {
  for (int kind = 0; kind < 4; ++kind) {
    Toy toy(23, 150, 5);
    std::vector<float> factors(150);
    for (size_t i = 0; i < factors.size(); ++i) factors[i] = kind == 1 ? static_cast<float>(i % 3) : 0.1f + static_cast<float>(i * i % 17);
    if (kind == 2)
      for (float& x : toy.w) x = std::round(2 * x) / 2;  // ties and zeros
    if (kind == 3)
      for (float& x : toy.w) x = 1;
    ThreadPool pool(3);
    for (const PruneScope scope : {PruneScope::row, PruneScope::matrix}) {
      Ledger ledger;
      PruneInput in = toy.input("wanda", factors);
      in.scope = scope;
      in.pool = &pool;
      const auto scores = findPruneMethod("wanda")->prepare(in, ledger);
      const int64_t kept = ledger.bytes(MemoryTag::calibration);
      EXPECT_EQ(kept, scope == PruneScope::row ? 23 * 128 : 131072);
      for (int step = 0; step <= 40; ++step) {
        const double ratio = step / 40.0;
        EXPECT(toy.applied(*scores->at({ratio, {}}, in)) == byOrder(toy, factors, scope == PruneScope::row ? 150 : 23 * 150, ratio), kind, ratio);
      }
      EXPECT_EQ(ledger.bytes(MemoryTag::calibration), kept);
    }
  }
}

TEST(patterns_leave_half_of_every_group) {
  const Toy toy(17, 44);  // the last group of eight has four
  std::vector<float> norms(44);
  for (size_t i = 0; i < norms.size(); ++i) norms[i] = 0.1f + static_cast<float>(i * i % 17);
  for (const char* method : {"magnitude", "wanda"})
    for (const int of : {4, 8}) {
      const auto out = toy.pruned(method, 0.5, norms, of == 4 ? "2:4" : "4:8");
      const bool weighed = std::string_view(method) == "wanda";
      for (int first = 0; first < 17 * 44; first += 4) {
        if (of == 8 && first % 44 % 8 == 4) continue;
        const int end = std::min(first + of, (first / 44 + 1) * 44);
        EXPECT_EQ(std::count(out.begin() + first, out.begin() + end, 0.0f), (end - first) / 2);
        for (int i = first; i < end; ++i)
          for (int k = first; k < end; ++k) {
            const auto score = [&](int at) { return std::fabs(toy.w[static_cast<size_t>(at)]) * (weighed ? norms[static_cast<size_t>(at % 44)] : 1.0f); };
            if (out[static_cast<size_t>(i)] == 0 && out[static_cast<size_t>(k)] != 0) EXPECT(score(i) <= score(k), method, of, i, k);
          }
      }
    }
}

TEST(patterns_of_the_worked_row) {
  Toy toy(1, 4);
  toy.w = {2, -1.5f, .6f, .9f};
  EXPECT(toy.pruned("wanda", 0.5, {1.7578395831f, .9539392014f, 8.8881944173f, 1.4282856857f}, "2:4") == (std::vector<float>{2, 0, .6f, 0}));
  EXPECT(toy.pruned("magnitude", 0.5, {}, "2:4") == (std::vector<float>{2, -1.5f, 0, 0}));
}

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

// ---- SparseGPT ----

namespace {

const std::vector<float> kInputs = {1, .2f, 4, .5f, .5f, -.3f, 3, -.5f, -1, .4f, -5, .5f, .8f, .1f, 4, -.5f, -.2f, -.5f, 2, 1, .4f, .6f, -3, .2f};

struct Measured {
  int cols;
  Ledger ledger;
  ThreadPool pool{2};
  SecondMoments moments;
  InverseFactor factor;
  Measured(const std::vector<float>& x, int columns) : cols(columns), moments(ledger, columns) {
    moments.add(x.data(), cols, static_cast<int>(x.size()) / cols, pool);
    EXPECT(factor.make(ledger, moments, {}, pool, {}) == InverseFactor::Outcome::done);
  }
  std::vector<float> pruned(const Toy& toy, double ratio, const char* pattern = "unstructured") {
    PruneInput in = toy.input("sparsegpt");
    in.statistics.factor = &factor;
    in.pool = &pool;
    return toy.applied(*findPruneMethod("sparsegpt")->prepare(in, ledger)->at({ratio, parsePattern(pattern)}, in));
  }
  // Sum of squares of what the outputs lose.
  double loss(const Toy& toy, const std::vector<float>& other) const {
    double sum = 0;
    for (int row = 0; row < toy.rows; ++row)
      for (int i = 0; i < cols; ++i)
        for (int j = 0; j < cols; ++j) {
          const auto at = [&](int c) { return static_cast<size_t>(row * cols + c); };
          sum += double{toy.w[at(i)] - other[at(i)]} * moments.at(i, j) * double{toy.w[at(j)] - other[at(j)]};
        }
    return sum;
  }
};

std::vector<float> correlated(int tokens, int cols) {
  std::mt19937 rng(11);
  std::normal_distribution<float> draw;
  std::vector<float> x(static_cast<size_t>(tokens * cols));
  for (int t = 0; t < tokens; ++t) {
    const float shared = draw(rng), other = draw(rng);
    for (int c = 0; c < cols; ++c) x[static_cast<size_t>(t * cols + c)] = draw(rng) + shared * static_cast<float>(c % 5) * 0.5f + (c % 2 ? other : -other);
  }
  return x;
}

}  // namespace

TEST(sparsegpt_worked_row) {
  Toy toy(1, 4);
  toy.w = {2, -1.5f, .6f, .9f};
  Measured measured(kInputs, 4);
  const auto out = measured.pruned(toy, 0.5, "2:4");
  const double expected[] = {2, 0, .6881148183, 0};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(out[i], expected[i], 1e-5);
  EXPECT_NEAR(measured.loss(toy, out), 3.4821007779, 1e-4);
}

TEST(sparsegpt_leaves_exact_zeros_and_loses_less_than_its_mask) {
  constexpr int kCols = 300;  // three blocks, the last one short
  const Toy toy(37, kCols, 9);
  Measured measured(correlated(1200, kCols), kCols);
  EXPECT(measured.pruned(toy, 0) == toy.w);
  for (const double ratio : {0.3, 0.5, 0.8}) {
    const auto out = measured.pruned(toy, ratio);
    EXPECT_EQ(zeros(out), static_cast<int64_t>(std::floor(ratio * 37 * kCols)));
    auto masked = toy.w;
    for (size_t i = 0; i < out.size(); ++i)
      if (out[i] == 0) masked[i] = 0;
    EXPECT(measured.loss(toy, out) < 0.7 * measured.loss(toy, masked), ratio, measured.loss(toy, out), measured.loss(toy, masked));
    EXPECT(measured.loss(toy, out) < 0.7 * measured.loss(toy, toy.pruned("magnitude", ratio)), ratio);
  }
  for (const int of : {4, 8}) {
    const auto out = measured.pruned(toy, 0.5, of == 4 ? "2:4" : "4:8");
    for (int at = 0; at < 37 * kCols; at += 4)
      if (of == 4 || at % kCols % 8 == 0) {
        const int end = std::min(at + of, (at / kCols + 1) * kCols);
        EXPECT_EQ(std::count(out.begin() + at, out.begin() + end, 0.0f), (end - at) / 2);
      }
  }
}

TEST(sparsegpt_with_independent_inputs_is_magnitude_within_blocks) {
  std::vector<float> x(64 * 64, 0.0f);
  for (size_t i = 0; i < 64; ++i) x[i * 64 + i] = 3;  // orthogonal columns of one length
  const Toy toy(20, 64);
  const auto out = Measured(x, 64).pruned(toy, 0.5), magnitude = toy.pruned("magnitude", 0.5);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], magnitude[i], 1e-6);
}

TEST(inputs_that_were_never_active_lose_their_weights) {
  auto x = correlated(300, 40);
  for (size_t t = 0; t < 300; ++t) x[t * 40 + 7] = 0;
  const Toy toy(8, 40);
  const auto out = Measured(x, 40).pruned(toy, 0.25);
  for (size_t row = 0; row < 8; ++row) EXPECT_EQ(out[row * 40 + 7], 0.0f);
}

TEST(rounding_with_compensation_leaves_pruned_weights_at_zero) {
  const Toy toy(16, 96, 4);
  Measured measured(correlated(600, 96), 96);
  const auto sparse = measured.pruned(toy, 0.5);
  MethodInput input;
  input.factor = &measured.factor;
  for (const char* method : {"rtn", "gptq"}) {
    Matrix matrix = Matrix::allocate(measured.ledger, {Storage::packed, 4, 32, true}, 16, 96);
    findQuantizeMethod(method)->quantizeRows(sparse.data(), 0, 16, input, matrix);
    std::vector<float> row(96);
    for (int r = 0; r < 16; ++r) {
      dequantizeRow(matrix, r, row.data());
      for (size_t c = 0; c < 96; ++c)
        if (sparse[static_cast<size_t>(r) * 96 + c] == 0) EXPECT_EQ(row[c], 0.0f);
    }
  }
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
