// SPDX-License-Identifier: GPL-3.0-or-later
// Recovery of what pruning leaves: the worked row of pruning_sharing_attribution.md L3, and the guarantees of section J.
#include "tests/support/check.h"

#include <algorithm>

#include "engine/recover/method.h"
#include "engine/weights/constants.h"
#include "tests/support/normal.h"

using namespace winnow;
using test::normal;

namespace {

const std::vector<float> kInputs = {1, .2f, 4, .5f, .5f, -.3f, 3, -.5f, -1, .4f, -5, .5f, .8f, .1f, 4, -.5f, -.2f, -.5f, 2, 1, .4f, .6f, -3, .2f};
const std::vector<float> kRow = {2, -1.5f, .6f, .9f}, kMasked = {2, 0, .6f, 0};

// Inputs of unequal sizes that hang together; column 3 was never active.
std::vector<float> correlated(int tokens, int cols) {
  auto x = normal(static_cast<size_t>(tokens * cols), 11);
  const auto shared = normal(static_cast<size_t>(tokens) * 2, 12);
  for (int t = 0; t < tokens; ++t)
    for (int c = 0; c < cols; ++c) {
      float& value = x[static_cast<size_t>(t * cols + c)];
      value += shared[static_cast<size_t>(2 * t)] * static_cast<float>(c % 5) * 0.5f + shared[static_cast<size_t>(2 * t + 1)] * (c % 2 ? 1.0f : -1.0f);
      value *= c == 3 ? 0.0f : c % 17 == 0 ? 6.0f : 1.0f;
    }
  return x;
}

struct Measured {
  int cols;
  Ledger ledger;
  ThreadPool pool{2};
  SecondMoments moments, centred;
  std::vector<double> means;
  std::vector<std::unique_ptr<InverseFactor>> factors;
  Measured(const std::vector<float>& x, int columns) : cols(columns), moments(ledger, columns), means(static_cast<size_t>(columns)) {
    const size_t tokens = x.size() / means.size();
    moments.add(x.data(), cols, static_cast<int>(tokens), pool);
    for (size_t i = 0; i < x.size(); ++i) means[i % means.size()] += double{x[i]} / static_cast<double>(tokens);
    centred = moments.centred(ledger, means);
  }
  MethodInput statistics(double damping, bool about = false) {
    factors.push_back(std::make_unique<InverseFactor>());
    const SecondMoments& from = about ? centred : moments;
    EXPECT(factors.back()->make(ledger, from, {damping, false}, pool, {}) == InverseFactor::Outcome::done);
    MethodInput out;
    out.moments = &from;
    out.means = means;
    out.factor = factors.back().get();
    return out;
  }
  std::vector<float> recovered(const char* name, const std::vector<float>& dense, std::vector<float> pruned, double damping, int steps = 20) {
    const RecoveryMethod& method = *findRecoveryMethod(name);
    if (!method.prepare) return pruned;
    const auto recovery = method.prepare({cols, statistics(damping + method.penalty, method.needs.centred), damping, &pool, steps});
    recovery->apply(dense.data(), pruned.data(), static_cast<int>(dense.size()) / cols);
    return pruned;
  }
  // Of rows that were stored so, as the engine adds them.
  std::vector<float> constants(const std::vector<float>& dense, const std::vector<float>& other) {
    const int rows = static_cast<int>(dense.size()) / cols;
    MasterTensor master;
    master.role = TensorRole::o;
    master.layer = 0;
    master.type = DType::f32;
    master.rows = rows;
    master.cols = cols;
    master.data = reinterpret_cast<const std::byte*>(dense.data());
    master.storedRowBytes = static_cast<size_t>(cols) * sizeof(float);
    const Matrix stored = Matrix::allocate(ledger, {Storage::f32, 32, 0, true}, rows, cols);
    std::copy(other.begin(), other.end(), stored.codes.as<float>());
    MethodInputs inputs;
    inputs.means = means;
    const Progress progress;
    std::vector<float> out;
    EXPECT(fitConstants(master, inputs, stored, {}, pool, ConvertProgress(progress, 0), out) == Converted::done);
    return out;
  }
  // What row r of the outputs lost: a sum of squares over the tokens. With constants the mean error is gone from it.
  double loss(const std::vector<float>& dense, const std::vector<float>& other, int r, bool constant = false) const {
    const SecondMoments& by = constant ? centred : moments;
    const size_t from = static_cast<size_t>(r * cols);
    double sum = 0;
    for (int i = 0; i < cols; ++i)
      for (int j = 0; j < cols; ++j) {
        const size_t a = from + static_cast<size_t>(i), b = from + static_cast<size_t>(j);
        sum += (double{dense[a]} - double{other[a]}) * double{by.at(i, j)} * (double{dense[b]} - double{other[b]});
      }
    return sum;
  }
  double loss(const std::vector<float>& dense, const std::vector<float>& other, bool constant = false) const {
    double sum = 0;
    for (int r = 0; r < static_cast<int>(dense.size()) / cols; ++r) sum += loss(dense, other, r, constant);
    return sum;
  }
  std::vector<float> pruned(const char* name, const std::vector<float>& dense, const PruneLevel& level) {
    PruneInput input;
    input.rows = static_cast<int>(dense.size()) / cols;
    input.cols = cols;
    input.scope = findPruneMethod(name)->scope;
    input.statistics = statistics(0.01);
    std::vector<float> norms(static_cast<size_t>(cols));
    for (int c = 0; c < cols; ++c) norms[static_cast<size_t>(c)] = std::sqrt(moments.at(c, c));
    input.statistics.columnNorms = norms;
    input.decode = [&](int row, int count, float* out) { std::copy_n(dense.data() + row * cols, count * cols, out); };
    std::vector<float> out = dense;
    const auto scores = findPruneMethod(name)->prepare(input, ledger);
    scores->at(level, input)->apply(out.data(), 0, input.rows);
    return out;
  }
};

void expectNear(const std::vector<float>& found, const std::vector<double>& expected, double tolerance) {
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance);
}

}  // namespace

// ---- the worked row ----

TEST(least_squares_of_the_worked_row) {
  Measured measured(kInputs, 4);
  EXPECT_NEAR(measured.loss(kRow, kMasked), 3.6459, 5e-5);
  const auto fitted = measured.recovered("least-squares", kRow, kMasked, 0);
  expectNear(fitted, {.8085670420, 0, .8383080860, 0}, 1e-5);
  EXPECT_NEAR(measured.loss(kRow, fitted), 1.6441978403, 1e-5);
}

TEST(admm_of_the_worked_row_step_by_step) {
  Measured measured(kInputs, 4);
  struct {
    int steps;
    std::vector<double> weights;
    double loss;
  } const expected[] = {{1, {1.68596372, 0, .69903069, 0}, 2.5981372302}, {5, {.94419961, 0, .81930505, 0}, 1.6671963731}, {20, {.80859862, 0, .83830339, 0}, 1.6441978416}};
  for (const auto& e : expected) {
    const auto fitted = measured.recovered("admm", kRow, kMasked, 0, e.steps);
    expectNear(fitted, e.weights, 1e-5);
    EXPECT_NEAR(measured.loss(kRow, fitted), e.loss, 1e-4);
  }
}

// By the definition: w C w0^T / w C w^T, in double.
TEST(scale_of_the_worked_row) {
  Measured measured(kInputs, 4);
  double with = 0, own = 0;
  for (size_t i = 0; i < 4; ++i)
    for (size_t j = 0; j < 4; ++j) {
      double moment = 0;
      for (size_t t = 0; t < 6; ++t) moment += double{kInputs[4 * t + i]} * double{kInputs[4 * t + j]};
      with += double{kMasked[i]} * moment * double{kRow[j]};
      own += double{kMasked[i]} * moment * double{kMasked[j]};
    }
  expectNear(measured.recovered("scale", kRow, kMasked, 0), {2 * with / own, 0, .6 * with / own, 0}, 1e-5);
}

// Sum over the tokens of what a row with a constant lacks, in double.
double squares(const std::vector<float>& row, double constant) {
  double sum = 0;
  for (size_t t = 0; t < 6; ++t) {
    double error = -constant;
    for (size_t c = 0; c < 4; ++c) error += (double{kRow[c]} - double{row[c]}) * double{kInputs[4 * t + c]};
    sum += error * error;
  }
  return sum;
}

TEST(bias_of_the_worked_row) {
  Measured measured(kInputs, 4);
  const auto constants = measured.constants(kRow, measured.recovered("bias", kRow, kMasked, 0));
  EXPECT_NEAR(constants[0], 0.055, 1e-7);  // f32 rows and inputs
  EXPECT_NEAR(squares(kMasked, double{constants[0]}), 3.62775, 1e-6);
}

TEST(regression_of_the_worked_row) {
  Measured measured(kInputs, 4);
  const auto fitted = measured.recovered("regression", kRow, kMasked, 0);
  expectNear(fitted, {.7038560562, 0, .8431825629, 0}, 1e-5);
  const auto constants = measured.constants(kRow, fitted);
  EXPECT_NEAR(constants[0], .1763838502, 1e-5);
  EXPECT_NEAR(squares(fitted, double{constants[0]}), 1.4809353599, 1e-5);
}

// J2 in double: a = (w S w0^T + l) / (w S w^T + l) with S about the means, c = (w0 - a w) mean; l is the damping's share of mean(diag S) |w|^2.
TEST(affine_of_the_worked_row) {
  Measured measured(kInputs, 4);
  for (const double damping : {0.0, 0.01, 1.0}) {
    double with = 0, own = 0, diagonal = 0, size = 0;
    for (size_t i = 0; i < 4; ++i) {
      size += double{kMasked[i]} * double{kMasked[i]};
      for (size_t j = 0; j < 4; ++j) {
        double moment = 0;
        for (size_t t = 0; t < 6; ++t) moment += (double{kInputs[4 * t + i]} - measured.means[i]) * (double{kInputs[4 * t + j]} - measured.means[j]);
        with += double{kMasked[i]} * moment * double{kRow[j]};
        own += double{kMasked[i]} * moment * double{kMasked[j]};
        if (i == j) diagonal += moment / 4;
      }
    }
    const double prior = damping * diagonal * size, a = (with + prior) / (own + prior);
    double constant = 0;
    for (size_t c = 0; c < 4; ++c) constant += (double{kRow[c]} - a * double{kMasked[c]}) * measured.means[c];
    const auto fitted = measured.recovered("affine", kRow, kMasked, damping);
    expectNear(fitted, {2 * a, 0, .6 * a, 0}, 1e-5);
    EXPECT_NEAR(measured.constants(kRow, fitted)[0], constant, 1e-5);
    EXPECT(squares(fitted, constant) < squares(kMasked, 0));
  }
}

TEST(moments_about_means_are_those_of_centred_inputs) {
  constexpr int kTokens = 300, kCols = 70;
  auto x = correlated(kTokens, kCols);
  for (int t = 0; t < kTokens; ++t) x[static_cast<size_t>(t * kCols + 5)] = 2.5f;  // never varies
  Measured measured(x, kCols);
  for (int i = 0; i < kCols; ++i)
    for (int j = 0; j < kCols; ++j) {
      double sum = 0, scale = 0;
      for (int t = 0; t < kTokens; ++t) {
        const auto a = static_cast<size_t>(t * kCols + i), b = static_cast<size_t>(t * kCols + j);
        sum += (double{x[a]} - measured.means[static_cast<size_t>(i)]) * (double{x[b]} - measured.means[static_cast<size_t>(j)]);
        scale += std::fabs(double{x[a]} * double{x[b]});
      }
      // f32 sums of 64 products, added in double and rounded once: 65 half steps of f32 of their magnitudes.
      EXPECT_NEAR(measured.centred.at(i, j), i == 5 || j == 5 ? 0.0 : sum, 65 * 0x1p-24 * scale);
    }
}

// ---- guarantees ----

TEST(recovery_never_hurts_and_leaves_zeros_alone) {
  constexpr int kRows = 19, kCols = 150;
  Measured measured(correlated(700, kCols), kCols);
  const auto dense = normal(kRows * kCols, 5);
  for (const char* prune : {"magnitude", "wanda", "sparsegpt"})
    for (const PruneLevel& level : {PruneLevel{0.3, {}}, PruneLevel{0.5, {}}, PruneLevel{0.8, {}}, PruneLevel{0.5, parsePattern("2:4")}, PruneLevel{0.5, parsePattern("4:8")}}) {
      const auto pruned = measured.pruned(prune, dense, level);
      for (const double damping : {0.0001, 0.01, 1.0}) {
        double least = measured.loss(dense, pruned);
        for (const RecoveryMethod& method : recoveryMethods()) {
          const auto fitted = measured.recovered(method.name.c_str(), dense, pruned, damping);
          for (size_t i = 0; i < pruned.size(); ++i) EXPECT((fitted[i] == 0) == (pruned[i] == 0) && std::isfinite(fitted[i]), method.name, i);
          for (int r = 0; r < kRows; ++r)
            EXPECT(measured.loss(dense, fitted, r, method.constant) <= (1 + 1e-5) * measured.loss(dense, pruned, r), prune, level.ratio, damping, method.name, r);
          if (method.constant) continue;
          if (method.name == "least-squares") EXPECT(measured.loss(dense, fitted) < 0.99 * least, prune, level.ratio, damping);  // than of pruning, and of scale
          least = std::min(least, measured.loss(dense, fitted));
        }
      }
    }
}

// Nothing near the exact solution is better, and fitted again it stands still.
TEST(least_squares_has_no_better_neighbour) {
  constexpr int kCols = 70;
  Measured measured(correlated(300, kCols), kCols);
  const auto dense = normal(4 * kCols, 6);
  const auto pruned = measured.pruned("wanda", dense, {0.5, {}});
  const auto fitted = measured.recovered("least-squares", dense, pruned, 1e-9), again = measured.recovered("least-squares", dense, fitted, 1e-9);
  for (size_t i = 0; i < fitted.size(); ++i) {
    EXPECT_NEAR(again[i], fitted[i], 1e-5);
    if (fitted[i] == 0) continue;
    for (const float step : {-0.02f, 0.02f}) {
      auto other = fitted;
      other[i] += step;
      EXPECT(measured.loss(dense, other) >= measured.loss(dense, fitted), i, step);
    }
  }
}

TEST(admm_comes_near_the_exact_solution) {
  constexpr int kCols = 128;
  Measured measured(normal(600 * kCols, 3), kCols);
  const auto dense = normal(16 * kCols, 6), pruned = measured.pruned("wanda", dense, {0.5, {}});
  const auto exact = measured.recovered("least-squares", dense, pruned, 0.01), steps = measured.recovered("admm", dense, pruned, 0.01);
  const double before = measured.loss(dense, pruned), best = measured.loss(dense, exact);
  EXPECT(measured.loss(dense, steps) - best < 0.05 * (before - best), before, best, measured.loss(dense, steps));
}

TEST(where_nothing_was_pruned_nothing_is_recovered) {
  constexpr int kCols = 100;
  Measured measured(correlated(400, kCols), kCols);
  const auto dense = normal(5 * kCols, 8);
  for (const RecoveryMethod& method : recoveryMethods()) EXPECT(measured.recovered(method.name.c_str(), dense, dense, 0.01) == dense, method.name);
}

TEST(rows_do_not_know_each_other) {
  constexpr int kCols = 90;
  Measured measured(correlated(400, kCols), kCols);
  const auto dense = normal(20 * kCols, 8), pruned = measured.pruned("wanda", dense, {0.5, {}});
  for (const RecoveryMethod& method : recoveryMethods()) {
    const auto all = measured.recovered(method.name.c_str(), dense, pruned, 0.01);
    for (const int r : {0, 7, 19}) {
      const auto row = [&](const std::vector<float>& from) { return std::vector<float>(from.begin() + r * kCols, from.begin() + (r + 1) * kCols); };
      const auto alone = measured.recovered(method.name.c_str(), row(dense), row(pruned), 0.01);
      for (size_t c = 0; c < kCols; ++c) EXPECT_NEAR(alone[c], row(all)[c], 1e-6);
    }
  }
}

TEST(hostile_inputs_leave_finite_weights) {
  constexpr int kCols = 40;
  const auto dense = normal(3 * kCols, 8);
  for (const auto& x : {std::vector<float>(kCols, 0.0f), normal(kCols, 2), std::vector<float>(30 * kCols, 1e-20f)}) {  // never active, one token, tiny and all alike
    Measured measured(x, kCols);
    auto pruned = measured.pruned("magnitude", dense, {0.5, {}});
    std::fill_n(pruned.begin(), kCols, 0.0f);  // an empty row
    for (const RecoveryMethod& method : recoveryMethods()) {
      const auto fitted = measured.recovered(method.name.c_str(), dense, pruned, 0.01);
      for (size_t i = 0; i < fitted.size(); ++i) EXPECT(std::isfinite(fitted[i]) && (pruned[i] != 0 || fitted[i] == 0), method.name, i, fitted[i]);
    }
  }
}

TEST(a_pruner_with_recovery_prunes_the_same_weights) {
  constexpr int kRows = 33, kCols = 64;
  Measured measured(correlated(300, kCols), kCols);
  const auto dense = normal(kRows * kCols, 5), pruned = measured.pruned("wanda", dense, {0.5, {}});
  class Copy final : public Pruner {
   public:
    explicit Copy(const std::vector<float>& rows) : rows_(rows) {}
    void apply(float* rows, int firstRow, int count) const override { std::copy_n(rows_.data() + firstRow * kCols, count * kCols, rows); }

   private:
    const std::vector<float>& rows_;
  };
  const RecoveryMethod& method = *findRecoveryMethod("least-squares");
  const auto pruner = recovered(std::make_unique<Copy>(pruned), method.prepare({kCols, measured.statistics(0.01), 0.01, nullptr}), kCols);
  auto out = dense;
  for (int r = 0; r < kRows; r += 16) pruner->apply(out.data() + r * kCols, r, std::min(16, kRows - r));
  EXPECT(out == measured.recovered("least-squares", dense, pruned, 0.01));
}
