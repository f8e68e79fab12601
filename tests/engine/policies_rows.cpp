// SPDX-License-Identifier: GPL-3.0-or-later
// Policies that read keys, values and queries: their formulas against double, and the rows a cache gives them.
#include <complex>
#include <numbers>
#include <numeric>
#include <random>

#include "engine/cache/allocation.h"
#include "engine/cache/kv_format.h"
#include "engine/cache/policies.h"
#include "engine/cache/query_rows.h"
#include "engine/cache/registry.h"
#include "engine/core/dtype.h"
#include "engine/cpu/kv_cache.h"
#include "tests/support/engine.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// A kv head with a group of query heads, all of it normal numbers.
struct Head {
  int dim, group, slots, queries;
  std::vector<float> keys, values, rows, carried;
  std::vector<int32_t> positions;
  std::vector<float> frequencies{};
  int slidingWindow = 0, fresh;
  bool hadamard = false;

  Head(int headDim, int heads, int held, int newest)
      : dim(headDim), group(heads), slots(held), queries(newest), carried(static_cast<size_t>(held)), positions(static_cast<size_t>(held)), fresh(newest) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const auto& [list, count] : {std::pair(&keys, slots), std::pair(&values, slots), std::pair(&rows, queries * group)})
      for (int i = 0; i < count * dim; ++i) list->push_back(normal(random));
    std::iota(positions.begin(), positions.end(), 0);
  }
  int64_t firstQuery() const { return positions.back() - queries + 1; }
  float* key(int slot) { return keys.data() + slot * dim; }
  float* query(int i, int g) { return rows.data() + (i * group + g) * dim; }
  KvSlots view() {
    KvSlots out{0, 0, positions, {}};
    out.geometry = {dim, group, slidingWindow, hadamard, frequencies};
    out.keys = keys;
    out.values = values;
    out.queries = {rows.data(), int64_t{group} * dim, firstQuery(), queries, fresh};
    out.carried = carried;
    return out;
  }
  std::vector<float> scores(const KvPolicy& policy, const KvRequest& request = {.keep = 1}) {
    std::vector<float> out(static_cast<size_t>(slots));
    policy.score(view(), request, out);
    return out;
  }
  std::vector<int32_t> kept(const KvPolicy& policy, const KvRequest& request) {
    std::vector<int32_t> out;
    keepBest(scores(policy, request), request.keep, out);
    return out;
  }
  double dot(const double* q, int slot) const {
    double sum = 0;
    for (int c = 0; c < dim; ++c) sum += q[c] * keys[static_cast<size_t>(slot * dim + c)];
    return sum;
  }
  // Attention of a query to every slot, in double; 0 where it sees none.
  std::vector<double> attention(int i, int g, double temperature = 1) {
    const int64_t at = firstQuery() + i;
    const std::vector<double> q(query(i, g), query(i, g) + dim);
    std::vector<double> p(static_cast<size_t>(slots));
    double sum = 0;
    for (int slot = 0; slot < slots; ++slot) {
      const int64_t position = positions[static_cast<size_t>(slot)];
      if (position > at || (slidingWindow > 0 && position <= at - slidingWindow)) continue;
      sum += p[static_cast<size_t>(slot)] = std::exp(dot(q.data(), slot) / std::sqrt(static_cast<double>(dim)) / temperature);
    }
    for (double& x : p) x /= sum;
    return p;
  }
};

std::vector<int32_t> newest(int slots, int count) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  std::iota(out.begin(), out.end(), slots - count);
  return out;
}

}  // namespace

// --- keys ----------------------------------------------------------------------------------------------------------------

TEST(knorm_keeps_short_keys_and_sinks) {
  Head head(4, 1, 7, 0);
  for (int slot = 0; slot < 7; ++slot)
    for (int c = 0; c < 4; ++c) head.key(slot)[c] = c == slot % 4 ? std::array{9.0f, 5.0f, 1.0f, 7.0f, 2.0f, 8.0f, 6.0f}[static_cast<size_t>(slot)] : 0.0f;
  EXPECT(head.kept(*makeKnorm(), {.keep = 3}) == (std::vector<int32_t>{2, 4, 6}));
  EXPECT(head.kept(*makeKnorm(), {.keep = 3, .sinks = 1}) == (std::vector<int32_t>{0, 2, 6}));
  head.positions = {20, 21, 22, 23, 24, 25, 26};  // the sinks are gone
  EXPECT(head.kept(*makeKnorm(), {.keep = 3, .sinks = 1}) == (std::vector<int32_t>{2, 4, 6}));
}

TEST(keydiff_is_the_cosine_to_the_mean_direction) {
  Head head(8, 1, 40, 0);
  const std::vector<float> scores = head.scores(*makeKeyDiff());
  std::vector<double> anchor(8), expected;
  const auto norm = [&](int slot) {
    double sum = 0;
    for (int c = 0; c < 8; ++c) sum += double{head.key(slot)[c]} * head.key(slot)[c];
    return std::sqrt(sum);
  };
  for (int slot = 0; slot < 40; ++slot)
    for (size_t c = 0; c < 8; ++c) anchor[c] += head.key(slot)[c] / norm(slot);
  const double length = std::sqrt(std::inner_product(anchor.begin(), anchor.end(), anchor.begin(), 0.0));
  for (int slot = 0; slot < 40; ++slot) expected.push_back(-head.dot(anchor.data(), slot) / norm(slot) / length);
  const double mean = std::accumulate(expected.begin(), expected.end(), 0.0) / 40;
  double squares = 0;
  for (const double x : expected) squares += (x - mean) * (x - mean) / 40;
  for (size_t slot = 0; slot < 40; ++slot) EXPECT_NEAR(scores[slot], (expected[slot] - mean) / std::sqrt(squares), 4e-6);  // f32 of numbers up to 4, twice
}

TEST(keydiff_sees_directions_alone) {
  Head head(8, 1, 40, 0), scaled = head;
  for (int slot = 0; slot < 40; ++slot)
    for (int c = 0; c < 8; ++c) scaled.key(slot)[c] *= static_cast<float>(1 << slot % 7);  // exact
  std::copy_n(head.key(5), 8, head.key(30));
  std::copy_n(scaled.key(5), 8, scaled.key(30));
  const auto plain = head.scores(*makeKeyDiff()), other = scaled.scores(*makeKeyDiff());
  EXPECT_EQ(plain[5], plain[30]);
  for (size_t slot = 0; slot < 40; ++slot) EXPECT_NEAR(plain[slot], other[slot], 4e-6);
  Head one(2, 1, 6, 0);  // five keys one way, one the other
  for (int slot = 0; slot < 6; ++slot) one.key(slot)[0] = slot == 2 ? 0.0f : 3.0f, one.key(slot)[1] = slot == 2 ? 0.5f : 0.0f;
  EXPECT(one.kept(*makeKeyDiff(), {.keep = 2}) == (std::vector<int32_t>{2, 5}));
}

TEST(standardized_scores_have_no_unit) {
  const float always = KvPolicy::kAlways;
  std::vector<float> a = {always, 1, 2, 3, 6}, b = {always, 110, 120, 130, 160}, flat = {4, 4, 4};
  standardize(a);
  standardize(b);
  standardize(flat);
  EXPECT(a[0] == always);
  EXPECT_NEAR(a[1], -2 / std::sqrt(3.5), 1e-6);
  for (size_t i = 1; i < 5; ++i) EXPECT_NEAR(a[i], b[i], 1e-6);
  EXPECT(flat == std::vector<float>(3, 0.0f));
}

// --- queries -------------------------------------------------------------------------------------------------------------

TEST(scissorhands_counts_queries_that_give_less_than_their_share) {
  for (const int window : {0, 11}) {
    Head head(8, 2, 60, 24);
    head.slidingWindow = window;
    for (size_t slot = 20; slot < 60; ++slot) head.positions[slot] += 9;  // some are gone
    const auto scores = head.scores(*makeScissorhands());
    std::vector<int> low(60);
    for (int i = 0; i < 24; ++i)
      for (int g = 0; g < 2; ++g) {
        const auto p = head.attention(i, g);
        const auto seen = std::ranges::count_if(p, [](double x) { return x > 0; });
        for (size_t slot = 0; slot < 60; ++slot) low[slot] += p[slot] > 0 && p[slot] * static_cast<double>(seen) < 1;
      }
    for (size_t slot = 0; slot < 60; ++slot)  // a share that is even to f32 may be counted or not
      EXPECT_NEAR(std::floor(scores[slot]), slot < 50 ? -low[slot] : 0, 0.0);
  }
}

TEST(scissorhands_drops_the_oldest_of_equals) {
  Head head(4, 2, 40, 16);
  std::ranges::fill(head.rows, 0.0f);  // attention is even
  EXPECT(head.kept(*makeScissorhands(), {.keep = 25}) == newest(40, 25));
  // One that every query attends to stays.
  for (int i = 0; i < 16; ++i)
    for (int g = 0; g < 2; ++g) head.query(i, g)[0] = 5;
  for (int slot = 0; slot < 40; ++slot) head.key(slot)[0] = slot == 3 ? 5.0f : 0.0f;
  auto expected = newest(40, 24);
  expected.insert(expected.begin(), 3);
  EXPECT(head.kept(*makeScissorhands(), {.keep = 25}) == expected);
}

TEST(keyformer_without_noise_is_h2o) {
  Head head(8, 2, 50, 50);
  head.slidingWindow = 30;
  const auto plain = makeKeyformerWith({.rise = 0, .recentShare = 0.5, .noise = false, .mostQueries = 50});
  const KvRequest request{.keep = 20};
  const auto kept = head.kept(*plain, request);
  std::vector<float> sums(50);
  std::vector<double> exact(50);
  for (int i = 0; i < 50; ++i)
    for (int g = 0; g < 2; ++g) {
      const auto p = head.attention(i, g);
      for (size_t slot = 0; slot < 50; ++slot) exact[slot] += p[slot];
    }
  for (size_t slot = 0; slot < 50; ++slot) {
    EXPECT_NEAR(head.carried[slot], exact[slot], 100 * 2e-6);  // a sum of 100; each within what the_newest_queries_are_observed allows
    sums[slot] = static_cast<float>(exact[slot]);
  }
  EXPECT_NEAR(std::accumulate(head.carried.begin(), head.carried.end(), 0.0), 100.0, 1e-3);  // a unit of each query and head
  KvSlots observed{0, 0, head.positions, sums};
  std::vector<float> scores(50);
  makeH2o()->score(observed, request, scores);
  std::vector<int32_t> expected;
  keepBest(scores, request.keep, expected);
  EXPECT(kept == expected);
}

TEST(keyformer_adds_each_query_once) {
  Head whole(8, 2, 50, 40), parts = whole;
  const auto policy = makeKeyformerWith({.mostQueries = 40});
  const KvRequest request{.keep = 20, .seed = 7, .began = 30};
  whole.scores(*policy, request);
  std::vector<float> rows = parts.rows;
  for (const int count : {25, 40}) {  // the first 25, then 15 more
    Head now = parts;
    now.slots = 10 + count;
    now.positions.resize(static_cast<size_t>(now.slots));
    now.keys.resize(static_cast<size_t>(now.slots * 8));
    now.carried = parts.carried;
    now.carried.resize(static_cast<size_t>(now.slots));
    now.queries = count;
    now.fresh = count == 25 ? 25 : 15;
    now.scores(*policy, request);
    std::ranges::copy(now.carried, parts.carried.begin());
  }
  for (size_t slot = 0; slot < 50; ++slot) EXPECT_EQ(parts.carried[slot], whole.carried[slot]);
  Head again(8, 2, 50, 40), other = again;
  again.scores(*policy, request);
  other.scores(*policy, {.keep = 20, .seed = 8, .began = 30});
  EXPECT(again.carried == whole.carried);
  EXPECT(other.carried != whole.carried);
}

// Of 30 new queries among 40, ten at even distances, the newest one of them, each counted for three.
TEST(keyformer_adds_some_queries_for_all) {
  Head head(8, 2, 50, 40);
  head.fresh = 30;
  head.scores(*makeKeyformerWith({.rise = 0, .noise = false, .mostQueries = 10}), {.keep = 20});
  std::vector<double> exact(50);
  for (int i = 39; i >= 10; i -= 3)
    for (int g = 0; g < 2; ++g) {
      const auto p = head.attention(i, g);
      for (size_t slot = 0; slot < 50; ++slot) exact[slot] += 3 * p[slot];
    }
  for (size_t slot = 0; slot < 50; ++slot) EXPECT_NEAR(head.carried[slot], exact[slot], 60 * 2e-6);
  Head few(8, 2, 50, 40);  // of 31, every fourth: eight, which stand for 31
  few.fresh = 31;
  few.scores(*makeKeyformerWith({.mostQueries = 10}), {.keep = 20});
  EXPECT_NEAR(std::accumulate(few.carried.begin(), few.carried.end(), 0.0), 62.0, 1e-3);
}

// Moments of Gumbel(0, 1), neighbours and queries apart: within six standard deviations of what a million draws leave.
TEST(noise_has_the_moments_of_gumbel) {
  const size_t draws = 1 << 20;
  std::vector<int32_t> positions(draws);
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<float> one(draws), other(draws);
  perturb(one, positions, {3, 4}, 1);
  perturb(other, positions, {5, 4}, 1);
  const double n = draws, mean = std::accumulate(one.begin(), one.end(), 0.0) / n, variance = std::numbers::pi * std::numbers::pi / 6;
  double squares = 0, neighbours = 0, queries = 0;
  for (size_t i = 0; i < draws; ++i) {
    squares += (one[i] - mean) * (one[i] - mean) / n;
    neighbours += (one[i] - mean) * (one[(i + 1) % draws] - mean) / n / variance;
    queries += (one[i] - mean) * (other[i] - mean) / n / variance;
  }
  EXPECT_NEAR(mean, std::numbers::egamma, 6 * std::sqrt(variance / n));
  EXPECT_NEAR(squares, variance, 6 * variance * std::sqrt((5.4 - 1) / n));  // of a kurtosis of 5.4
  EXPECT_NEAR(neighbours, 0.0, 6 / std::sqrt(n));
  EXPECT_NEAR(queries, 0.0, 6 / std::sqrt(n));
}

// The largest of x + Gumbel noise is at j with probability softmax(x)_j, and a cold softmax picks the largest. Six standard deviations.
TEST(keyformers_noise_is_gumbel) {
  Head head(8, 1, 12, 1);
  const auto p = head.attention(0, 0);
  std::vector<double> counts(12);
  const int draws = 4000;
  for (int seed = 0; seed < draws; ++seed) {
    Head drawn(8, 1, 12, 1);
    drawn.scores(*makeKeyformerWith({.temperature = 1e-4, .rise = 0}), {.keep = 4, .seed = static_cast<uint32_t>(seed)});
    for (size_t slot = 0; slot < 12; ++slot) counts[slot] += drawn.carried[slot];
  }
  for (size_t slot = 0; slot < 12; ++slot) EXPECT_NEAR(counts[slot], draws * p[slot], 6 * std::sqrt(draws * p[slot] * (1 - p[slot])));
}

TEST(keyformer_warms_up_to_two) {
  for (const auto& [began, temperature] : {std::pair{int64_t{20}, 1.0}, std::pair{int64_t{-30}, 1.5}, std::pair{int64_t{-1000}, 2.0}}) {
    Head head(8, 1, 20, 1);
    head.scores(*makeKeyformerWith({.noise = false}), {.keep = 4, .began = began});
    const auto p = head.attention(0, 0, temperature);
    for (size_t slot = 0; slot < 20; ++slot) EXPECT_NEAR(head.carried[slot], p[slot], 2e-6);
  }
}

// --- Expected Attention --------------------------------------------------------------------------------------------------

namespace {

double valueNorm(const Head& head, size_t slot) {
  double sum = 0;
  for (size_t c = 0; c < static_cast<size_t>(head.dim); ++c) {
    const double x = head.values[slot * static_cast<size_t>(head.dim) + c];
    sum += x * x;
  }
  return std::sqrt(sum);
}

// The formula by matrices: the mean of the rotations, mean and covariance without RoPE, the exponents, the softmax beyond the sinks.
std::vector<double> expectedScores(Head& head, int future, int sinks) {
  const auto dim = static_cast<size_t>(head.dim), half = head.frequencies.size(), slots = static_cast<size_t>(head.slots);
  const int64_t next = head.positions.back() + 1;
  std::vector<double> shares(slots);
  for (int g = 0; g < head.group; ++g) {
    std::vector<std::vector<double>> plain;
    for (int i = 0; i < head.queries; ++i) {
      if (head.firstQuery() + i < sinks) continue;
      std::vector<double> q(head.query(i, g), head.query(i, g) + dim);
      if (head.hadamard) {
        std::vector<float> row(q.begin(), q.end());
        rotateHadamard(row.data(), head.dim);
        q.assign(row.begin(), row.end());
      }
      for (size_t c = 0; c < half; ++c) {
        const auto turned = std::complex(q[c], q[half + c]) * std::polar(1.0, -static_cast<double>(head.frequencies[c]) * static_cast<double>(head.firstQuery() + i));
        q[c] = turned.real(), q[half + c] = turned.imag();
      }
      plain.push_back(std::move(q));
    }
    std::vector<double> rotation(dim * dim);  // the mean
    for (size_t c = 0; c < dim; ++c) rotation[c * dim + c] = c < 2 * half ? 0 : 1;
    for (int f = 0; f < future; ++f)
      for (size_t c = 0; c < half; ++c) {
        const double angle = head.frequencies[c] * static_cast<double>(next + f), cosine = std::cos(angle) / future, sine = std::sin(angle) / future;
        rotation[c * dim + c] += cosine, rotation[(half + c) * dim + half + c] += cosine;
        rotation[c * dim + half + c] -= sine, rotation[(half + c) * dim + c] += sine;
      }
    const auto rotated = [&](const std::vector<double>& x) {
      std::vector<double> y(dim);
      for (size_t r = 0; r < dim; ++r) y[r] = std::inner_product(x.begin(), x.end(), rotation.begin() + static_cast<std::ptrdiff_t>(r * dim), 0.0);
      return y;
    };
    const auto count = static_cast<double>(plain.size());
    std::vector<double> mean(dim), covariance(dim * dim), z(slots);
    for (const auto& q : plain)
      for (size_t c = 0; c < dim; ++c) mean[c] += q[c] / count;
    for (const auto& q : plain) {
      std::vector<double> off(dim);
      for (size_t c = 0; c < dim; ++c) off[c] = q[c] - mean[c];
      off = rotated(off);
      for (size_t r = 0; r < dim; ++r)
        for (size_t c = 0; c < dim; ++c) covariance[r * dim + c] += off[r] * off[c] / count;
    }
    mean = rotated(mean);
    double sum = 0;
    for (size_t slot = static_cast<size_t>(sinks); slot < slots; ++slot) {
      std::vector<float> key(head.key(static_cast<int>(slot)), head.key(static_cast<int>(slot)) + dim);
      if (head.hadamard) rotateHadamard(key.data(), head.dim);
      double square = 0, linear = 0;
      for (size_t r = 0; r < dim; ++r) {
        linear += mean[r] * key[r];
        for (size_t c = 0; c < dim; ++c) square += key[r] * covariance[r * dim + c] * key[c];
      }
      sum += z[slot] = std::exp(linear / std::sqrt(static_cast<double>(dim)) + square / (2 * static_cast<double>(dim)));
    }
    for (size_t slot = static_cast<size_t>(sinks); slot < slots; ++slot) shares[slot] += z[slot] / sum / head.group;
  }
  for (size_t slot = 0; slot < slots; ++slot) shares[slot] *= valueNorm(head, slot);
  return shares;
}

}  // namespace

// Exponents of size up to 10 are sums of 8 to 30 f32 products: 30 * 10 * 2^-24 of each share.
TEST(expected_attention_is_the_papers_formula) {
  for (const bool hadamard : {false, true})
    for (const int future : {1, 7, 512})
      for (const int sinks : {0, 3}) {
        Head head(8, 2, 40, 30);
        head.positions.back() = 60;
        head.frequencies = {1.0f, 0.1f, 0.01f};  // of 8 channels 6 are turned
        head.hadamard = hadamard;
        const auto scores = head.scores(*makeExpectedOver(future), {.keep = 10, .sinks = sinks});
        const auto expected = expectedScores(head, future, sinks);
        for (size_t slot = 0; slot < 40; ++slot) {
          if (static_cast<int>(slot) < sinks)
            EXPECT(scores[slot] == KvPolicy::kAlways);
          else
            EXPECT_NEAR(std::exp(double{scores[slot]}), expected[slot], expected[slot] * 4e-5);
        }
      }
}

// Heads of several blocks of rows, of which the later ones begin at later channels.
TEST(expected_attention_of_wide_heads_is_the_papers_formula) {
  for (const int queries : {20, 100}) {  // fewer and more than channels
    Head head(48, 2, 40, queries);
    if (queries > 40) head.positions.back() = queries + 20;
    for (float& x : head.rows) x *= 0.5f;
    for (size_t c = 0; c < 20; ++c) head.frequencies.push_back(std::pow(0.7f, static_cast<float>(c)));
    const auto scores = head.scores(*makeExpectedOver(7), {.keep = 10});
    const auto expected = expectedScores(head, 7, 0);
    for (size_t slot = 0; slot < 40; ++slot) EXPECT_NEAR(std::exp(double{scores[slot]}), expected[slot], expected[slot] * 4e-5);
  }
}

// More queries than channels, all in three directions: the covariance has no inverse, and its factor rows of zeros.
TEST(expected_attention_takes_queries_of_few_directions) {
  Head head(8, 1, 40, 30);
  for (int i = 3; i < 30; ++i)
    for (int c = 0; c < 8; ++c) head.query(i, 0)[c] = static_cast<float>(i % 5) * 0.25f * head.query(i % 3, 0)[c];
  const auto scores = head.scores(*makeExpectedOver(7), {.keep = 10});
  const auto expected = expectedScores(head, 7, 0);
  for (size_t slot = 0; slot < 40; ++slot) EXPECT_NEAR(std::exp(double{scores[slot]}), expected[slot], expected[slot] * 4e-5);
}

TEST(equal_queries_are_the_attention_of_one) {
  Head head(8, 1, 30, 10);
  for (int i = 1; i < 10; ++i) std::copy_n(head.query(0, 0), 8, head.query(i, 0));
  const auto scores = head.scores(*makeExpectedOver(16));  // no RoPE: nothing turns
  const auto p = head.attention(9, 0);
  for (size_t slot = 0; slot < 30; ++slot) EXPECT_NEAR(std::exp(scores[slot]), p[slot] * valueNorm(head, slot), 1e-5);
}

// Keys so long that all but one share is beyond the smallest float: the order is that of the exponents all the same.
TEST(expected_attention_orders_the_smallest_shares) {
  Head head(8, 1, 30, 1);
  for (float& x : head.keys) x *= 300;
  std::ranges::fill(head.values, 1.0f);
  const auto scores = head.scores(*makeExpectedOver(1));
  const std::vector<double> q(head.query(0, 0), head.query(0, 0) + 8);
  for (int a = 0; a < 30; ++a)
    for (int b = 0; b < 30; ++b)
      EXPECT_EQ(scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)], head.dot(q.data(), a) > head.dot(q.data(), b));
}

// Gaussian queries of the mean and covariance of those that were seen: what they give a key is what the policy says, up to a common factor.
TEST(expected_attention_is_the_mean_of_gaussian_queries) {
  Head head(8, 1, 6, 6);
  for (float& x : head.rows) x *= 0.7f;
  std::vector<double> mean(8);
  for (int i = 0; i < 6; ++i)
    for (size_t c = 0; c < 8; ++c) mean[c] += head.query(i, 0)[c] / 6.0;
  std::vector<double> drawn(6);
  std::mt19937 random(4);
  std::normal_distribution<double> normal;
  for (int n = 0; n < 400000; ++n) {
    std::vector<double> q = mean;
    for (int i = 0; i < 6; ++i) {
      const double weight = normal(random) / std::sqrt(6.0);
      for (size_t c = 0; c < 8; ++c) q[c] += weight * (head.query(i, 0)[c] - mean[c]);
    }
    for (int slot = 0; slot < 6; ++slot) drawn[static_cast<size_t>(slot)] += std::exp(head.dot(q.data(), slot) / std::sqrt(8.0));
  }
  const double sum = std::accumulate(drawn.begin(), drawn.end(), 0.0);
  const auto scores = head.scores(*makeExpectedOver(1));
  for (size_t slot = 0; slot < 6; ++slot) EXPECT_NEAR(std::exp(scores[slot]) / valueNorm(head, slot) / (drawn[slot] / sum), 1, 0.02);
}

// --- what a cache gives, and sessions ------------------------------------------------------------------------------------

TEST(a_cache_gives_its_rows_as_they_are_stored) {
  ModelConfig model;
  model.layers = 1;
  model.heads = model.kvHeads = 2;
  model.headDim = 32;
  for (const int bits : {16, 8}) {
    Ledger ledger;
    ThreadPool pool(1);
    cpu::HostKvCache cache(ledger, model, 256);
    cache.setFormat({bits, bits, false, false}, pool);
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> k, v;
    for (int i = 0; i < 50 * 64; ++i) k.push_back(f16ToFloat(floatToF16(normal(random)))), v.push_back(f16ToFloat(floatToF16(normal(random))));
    cache.reserve(50);
    cache.append(0, k.data(), v.data(), 64, 50, 0, pool);
    cache.seal(pool);
    std::vector<int32_t> some;
    for (int slot = 0; slot < 50; ++slot)
      if (slot % 3 != 1) some.push_back(slot);
    cache.keep(0, 1, some);
    for (const bool keys : {true, false}) {
      std::vector<float> rows(some.size() * 32);
      cache.fetchRows(0, true, true);
      cache.readRows(0, 1, keys, rows.data());
      for (size_t i = 0; i < some.size(); ++i) {
        const float* from = (keys ? k : v).data() + some[i] * 64 + 32;
        const auto [least, most] = std::minmax_element(from, from + 32);
        // Half a step, and the roundings of scale, minimum and result to f16.
        const double bound = bits == 16 ? 0 : (*most - *least) / 255.0 * 0.5 + 4 * 0x1p-11 * std::max(std::fabs(*least), std::fabs(*most));
        for (size_t c = 0; c < 32; ++c) EXPECT_NEAR(rows[i * 32 + c], from[c], bound);
      }
    }
  }
}

TEST(rows_are_read_alike_on_any_number_of_threads) {
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (!info.reads.rows()) continue;
    for (const char* allocation : {"even", "adaptive"}) {
      std::vector<uint64_t> hashes;
      for (const int threads : {1, 2, 3}) {
        const auto engine = openEngine(kRandom, threads);
        const auto session = makeSession(engine, configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "0.4"}, {"kv.k_bits", "4"}, {"kv.v_bits", "8"}, {"kv.rotate", "true"},
                                                            {"kv.allocation", allocation}, {"share.block", "2"}, {"share.first", "0"}}), {.context = 256, .maxBatch = 32});
        ok(session->prefill(someTokens(70, session->vocab()), {}));
        generate(*session, 20);
        EXPECT(session->cache().evictedTokens > 0, info.name);
        hashes.push_back(session->logitsHash());
      }
      EXPECT(hashes[1] == hashes[0] && hashes[2] == hashes[0], info.name, allocation);
    }
  }
}

TEST(policies_change_in_mid_generation) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine);
  ok(session->prefill(someTokens(80, session->vocab()), {}));
  const int64_t full = session->cache().allocatedBytes, scratch = bytes(session->memory(), MemoryTag::activations);
  session->takeEvents();
  int budget = 60;
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (!info.reads.rows()) continue;
    const std::string tokens = std::to_string(budget -= 8);
    session->request(configure({{"kv.policy", info.name.c_str()}, {"kv.budget", tokens.c_str()}, {"kv.interval", "1"}}));
    generate(*session, 3);
    EXPECT_EQ(session->cache().liveTokens, int64_t{budget});
    EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
    EXPECT_EQ(bytes(session->memory(), MemoryTag::activations), scratch);  // what an eviction reads is given back
    const auto events = session->takeEvents();
    EXPECT_EQ(std::ranges::any_of(events, [](const EngineEvent& event) { return event.code == "kv.scores_begin"; }), info.reads.carries);
  }
  EXPECT(session->cache().allocatedBytes < full / 2);
}

TEST(what_adds_up_is_asked_in_time) {
  ModelConfig model;
  model.layers = 4;
  model.heads = model.kvHeads = 2;
  model.headDim = 32;
  const Effective late = resolve(configure({{"kv.policy", "keyformer"}, {"kv.interval", "512"}}), model);
  EXPECT_EQ(late.config.integer("kv.interval"), int64_t{128});
  EXPECT(late.adjustments.size() == 1 && late.adjustments[0].reason.find("128 queries") != std::string::npos);
  EXPECT(resolve(configure({{"kv.policy", "keyformer"}, {"kv.interval", "128"}}), model).asRequested());
  EXPECT(resolve(configure({{"kv.policy", "expected"}, {"kv.interval", "512"}}), model).asRequested());
}

TEST(remembered_queries_are_planned) {
  const auto engine = openEngine(kRandom);
  for (const char* policy : {"keyformer", "expected", "keydiff"}) {
    const Config config = configure({{"kv.policy", policy}, {"kv.budget", "100"}});
    const SessionOptions options{.context = 512};
    const MemoryByTag planned = value(engine->plan(config, options, 300));
    const auto session = makeSession(engine, config, options);
    ok(session->prefill(someTokens(290, session->vocab()), {}));
    generate(*session, 10);
    expectAsPlanned(planned, session->memory(), policy);
  }
}
