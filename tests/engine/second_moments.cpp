// SPDX-License-Identifier: GPL-3.0-or-later
// Second moments of inputs and the upper factor of their inverse: the worked numbers of pruning_sharing_attribution.md L3, definitions in double.
#include "tests/support/check.h"

#include <algorithm>
#include <random>

#include "engine/core/check.h"
#include "engine/weights/calibration.h"
#include "engine/weights/inverse_factor.h"

using namespace winnow;

namespace {

std::vector<float> normal(int tokens, int cols, uint32_t seed = 3) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> draw;
  std::vector<float> x(static_cast<size_t>(tokens) * static_cast<size_t>(cols));
  for (int t = 0; t < tokens; ++t) {
    const float shared = draw(rng);
    for (int c = 0; c < cols; ++c) x[static_cast<size_t>(t * cols + c)] = draw(rng) + shared * static_cast<float>(c % 7) * 0.3f;
  }
  return x;
}

struct Moments {
  Ledger ledger;
  ThreadPool pool;
  SecondMoments sums;
  Moments(const std::vector<float>& x, int tokens, int cols, int threads = 2, int perCall = 512) : pool(threads), sums(ledger, cols) {
    for (int t = 0; t < tokens; t += perCall) sums.add(x.data() + static_cast<size_t>(t) * static_cast<size_t>(cols), cols, std::min(perCall, tokens - t), pool);
  }
  InverseFactor factor(const FactorOptions& options = {}) {
    InverseFactor out;
    EXPECT(out.make(ledger, sums, options, pool, {}) == InverseFactor::Outcome::done);
    return out;
  }
};

const std::vector<float> kToy = {1, .2f, 4, .5f, .5f, -.3f, 3, -.5f, -1, .4f, -5, .5f, .8f, .1f, 4, -.5f, -.2f, -.5f, 2, 1, .4f, .6f, -3, .2f};

// max |U H U^T - I| with H of the definition, in double.
double residual(const InverseFactor& factor, const SecondMoments& sums) {
  const int n = factor.cols();
  const auto column = [&](int i) { return factor.order().empty() ? i : factor.order()[static_cast<size_t>(i)]; };
  const double unit = 2.0 / static_cast<double>(sums.tokens());
  double mean = 0;
  int live = 0;
  for (int i = 0; i < n; ++i) {
    mean += unit * double{sums.at(i, i)};
    live += sums.at(i, i) > 0;
  }
  mean /= live;
  std::vector<double> h(static_cast<size_t>(n * n)), uh(h.size());
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      double value = unit * double{sums.at(column(i), column(j))};
      if (i == j) value = (value == 0 ? mean : value) + factor.damping() * mean;
      h[static_cast<size_t>(i * n + j)] = value;
    }
  for (int i = 0; i < n; ++i)
    for (int k = i; k < n; ++k)
      for (int j = 0; j < n; ++j) uh[static_cast<size_t>(i * n + j)] += double{factor.row(i)[k]} * h[static_cast<size_t>(k * n + j)];
  double worst = 0;
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int k = j; k < n; ++k) sum += uh[static_cast<size_t>(i * n + k)] * double{factor.row(j)[k]};
      worst = std::max(worst, std::fabs(sum - (i == j)));
    }
  return worst;
}

}  // namespace

TEST(second_moments_are_sums_of_products) {
  for (const auto& [tokens, cols] : {std::pair{1, 1}, {130, 100}, {700, 64}, {65, 129}}) {
    const auto x = normal(tokens, cols);
    const Moments one(x, tokens, cols, 1), three(x, tokens, cols, 3);
    EXPECT_EQ(one.sums.tokens(), int64_t{tokens});
    double worst = 0;
    for (int i = 0; i < cols; ++i)
      for (int j = 0; j < cols; ++j) {
        double sum = 0, size = 0;
        for (int t = 0; t < tokens; ++t) {
          const double product = double{x[static_cast<size_t>(t * cols + i)]} * double{x[static_cast<size_t>(t * cols + j)]};
          sum += product;
          size += std::fabs(product);
        }
        worst = std::max(worst, std::fabs(double{one.sums.at(i, j)} - sum) / size);
        EXPECT(one.sums.at(i, j) == three.sums.at(i, j), i, j);
      }
    EXPECT(worst < 4e-6, tokens, cols, worst);
  }
}

TEST(products_with_the_moments_are_sums_over_both_triangles) {
  for (const int cols : {1, 63, 64, 65, 200}) {
    const Moments m(normal(90, cols), 90, cols);
    std::vector<double> x(static_cast<size_t>(cols)), out(x.size());
    for (size_t c = 0; c < x.size(); ++c) x[c] = std::sin(static_cast<double>(c) + 1);
    m.sums.times(x.data(), out.data());
    for (int i = 0; i < cols; ++i) {
      double sum = 0, size = 0;
      for (int j = 0; j < cols; ++j) {
        sum += double{m.sums.at(i, j)} * x[static_cast<size_t>(j)];
        size += std::fabs(double{m.sums.at(i, j)} * x[static_cast<size_t>(j)]);
      }
      EXPECT_NEAR(out[static_cast<size_t>(i)], sum, 1e-13 * size);
    }
  }
}

TEST(the_mean_diagonal_is_of_active_inputs) {
  auto x = normal(50, 10);
  for (size_t t = 0; t < 50; ++t) x[t * 10 + 5] = 0;
  const Moments m(x, 50, 10);
  double sum = 0;
  for (int c = 0; c < 10; ++c) sum += double{m.sums.at(c, c)};
  EXPECT_NEAR(m.sums.meanDiagonal(), sum / 9, 1e-12 * sum);
  EXPECT_EQ(Moments(std::vector<float>(20, 0.0f), 2, 10).sums.meanDiagonal(), 1.0);
}

TEST(memory_is_planned_as_it_is_taken) {
  ModelConfig model;
  model.layers = 2;
  model.hidden = 70;
  model.heads = model.kvHeads = 7;
  model.headDim = 10;
  model.ffn = 130;
  Ledger real, planned(true);
  ThreadPool pool(1);
  const Calibration some(model, real, &pool), none(model, planned, &pool);
  EXPECT_EQ(planned.bytes(MemoryTag::calibration), real.bytes(MemoryTag::calibration));
  EXPECT(real.bytes(MemoryTag::calibration) > 2 * (3 * 70 * 70 + 130 * 130) / 2 * 4);
  EXPECT(some.hasMoments() && some.moments(1, LinearInput::down).cols() == 130);
}

TEST(worked_factor) {
  Moments toy(kToy, 6, 4);
  const InverseFactor factor = toy.factor();
  const double expected[4][4] = {{1.9857031556, -1.6991746015, -.3919254422, .2414848496},
                                 {0, 1.8683333037, .1097518998, .1100897955},
                                 {0, 0, .1984038161, .2290020074},
                                 {0, 0, 0, 1.1540339557}};
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) EXPECT_NEAR(factor.row(i)[j], expected[i][j], 2e-6);
  EXPECT(factor.order().empty() && factor.dead().empty() && factor.damping() == 0.01);
}

TEST(factor_inverts_whatever_the_size) {
  for (const int cols : {1, 63, 64, 65, 200}) {
    const auto x = normal(300, cols);
    Moments one(x, 300, cols, 1), three(x, 300, cols, 3);
    for (const bool ordered : {false, true}) {
      const InverseFactor a = one.factor({0.01, ordered}), b = three.factor({0.01, ordered});
      EXPECT(residual(a, one.sums) < 2e-4, cols, ordered, residual(a, one.sums));
      for (int i = 0; i < cols; ++i) EXPECT(std::equal(a.row(i), a.row(i) + cols, b.row(i)), cols, i);
      for (size_t i = 1; i < a.order().size(); ++i)
        EXPECT(one.sums.at(a.order()[i - 1], a.order()[i - 1]) >= one.sums.at(a.order()[i], a.order()[i]), i);
    }
  }
}

// 40 tokens span at most 40 of 100 dimensions.
TEST(damping_is_raised_until_there_is_a_factor) {
  Moments few(normal(40, 100), 40, 100);
  const InverseFactor damped = few.factor({0.01, false});
  EXPECT(damped.damping() == 0.01 && residual(damped, few.sums) < 1e-3, damped.damping(), residual(damped, few.sums));
  const InverseFactor raised = few.factor({0, false});
  EXPECT(raised.damping() > 0, raised.damping());
}

TEST(inputs_that_were_never_active_stand_alone) {
  auto x = normal(50, 70);
  for (size_t t = 0; t < 50; ++t) x[t * 70 + 5] = x[t * 70 + 66] = 0;
  Moments moments(x, 50, 70);
  const InverseFactor factor = moments.factor();
  EXPECT(factor.dead() == (std::vector<int>{5, 66}));
  for (int j = 0; j < 70; ++j) EXPECT((factor.row(5)[j] != 0) == (j == 5) && (j == 5 || factor.row(j)[5] == 0), j);
  EXPECT(residual(factor, moments.sums) < 1e-3);
}

TEST(a_factorization_can_be_stopped) {
  Moments moments(normal(100, 200), 100, 200);
  std::stop_source stop;
  stop.request_stop();
  InverseFactor factor;
  EXPECT(factor.make(moments.ledger, moments.sums, {}, moments.pool, {{}, stop.get_token()}) == InverseFactor::Outcome::cancelled);
}

TEST(what_is_not_finite_is_named) {
  ModelConfig model;
  model.layers = 3;
  model.hidden = 4;
  model.ffn = 6;
  Ledger ledger;
  Calibration calibration(model, ledger);
  std::vector<float> x(12, 1.0f);
  calibration.take(0, LinearInput::ffn, x.data(), 4, 3, 4);
  EXPECT(calibration.sound().ok());
  x[8] = std::nanf("");
  calibration.take(2, LinearInput::down, x.data(), 6, 2, 6);
  const Status sound = calibration.sound();
  EXPECT(!sound.ok() && sound.error().message.find("layer 2, channel 2 of what down") != std::string::npos, sound.ok() ? "" : sound.error().message);
}
