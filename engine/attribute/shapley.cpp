// SPDX-License-Identifier: GPL-3.0-or-later
// Shapley values: a source's marginal contribution averaged over the orders in which sources may come; exact for few sources, else over
// random orders, each with its reverse, with standard errors.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/attribute/mask_scores.h"
#include "engine/attribute/methods.h"

namespace winnow {
namespace {

constexpr size_t kExactSources = 10;
constexpr int kPairs = 50;

// Marginal contributions per source and response token: [sources][tokens]
using Shares = std::vector<std::vector<double>>;

void addMarginal(std::vector<double>& to, const std::vector<double>& with, const std::vector<double>& without, double weight) {
  to.resize(with.size(), 0.0);
  for (size_t t = 0; t < with.size(); ++t) to[t] += weight * (with[t] - without[t]);
}

void publish(AttributionTask& task, const Shares& shares, const std::vector<double>* errors) {
  for (size_t i = 0; i < shares.size(); ++i) {
    Source& source = task.result.sources[i];
    source.score = task.total(task.target, shares[i]);
    source.perToken.assign(shares[i].begin(), shares[i].end());
    if (errors) source.standardError = (*errors)[i];
  }
  task.partial();
}

Status exact(AttributionTask& task, MaskScores& scores, size_t n) {
  std::vector<Mask> masks;
  for (uint64_t bits = 0; bits < uint64_t{1} << n; ++bits) masks.push_back(maskOf(bits, n));
  if (Status done = scores.evaluate(masks); !done) return done;
  std::vector<double> weight(n);  // of a subset of that size: size! (n - size - 1)! / n!
  for (size_t size = 0; size < n; ++size) {
    const auto factorial = [](size_t k) { return std::lgamma(static_cast<double>(k) + 1); };
    weight[size] = std::exp(factorial(size) + factorial(n - size - 1) - factorial(n));
  }
  Shares shares(n);
  for (uint64_t bits = 0; bits < uint64_t{1} << n; ++bits)
    for (size_t i = 0; i < n; ++i) {
      if ((bits >> i & 1) != 0) continue;
      addMarginal(shares[i], scores.at(maskOf(bits | uint64_t{1} << i, n)), scores.at(maskOf(bits, n)), weight[static_cast<size_t>(std::popcount(bits))]);
    }
  publish(task, shares, nullptr);
  return Done{};
}

// The masks of an order: none, then one source more at a time.
std::vector<Mask> growing(const std::vector<size_t>& order) {
  std::vector<Mask> masks{Mask(order.size(), false)};
  for (const size_t source : order) {
    masks.push_back(masks.back());
    masks.back()[source] = true;
  }
  return masks;
}

Status sampled(AttributionTask& task, MaskScores& scores, size_t n, int pairs) {
  std::mt19937_64 random(task.request.seed);
  Shares mean(n);
  std::vector<double> average(n, 0.0), squares(n, 0.0), errors(n, 0.0);
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  for (int pair = 1; pair <= pairs; ++pair) {
    for (size_t i = n - 1; i > 0; --i) std::swap(order[i], order[static_cast<size_t>(random() % (i + 1))]);
    std::vector<size_t> reversed(order.rbegin(), order.rend());
    const std::vector<Mask> there = growing(order), back = growing(reversed);
    std::vector<Mask> masks = there;
    masks.insert(masks.end(), back.begin(), back.end());
    if (Status done = scores.evaluate(std::move(masks)); !done) return done;
    Shares shares(n);
    for (size_t i = 0; i < n; ++i) {
      addMarginal(shares[order[i]], scores.at(there[i + 1]), scores.at(there[i]), 0.5);
      addMarginal(shares[reversed[i]], scores.at(back[i + 1]), scores.at(back[i]), 0.5);
    }
    for (size_t i = 0; i < n; ++i) {  // running mean and sum of squared deviations
      mean[i].resize(shares[i].size(), 0.0);
      for (size_t t = 0; t < shares[i].size(); ++t) mean[i][t] += (shares[i][t] - mean[i][t]) / pair;
      const double value = task.total(task.target, shares[i]), before = average[i];
      average[i] += (value - before) / pair;
      squares[i] += (value - before) * (value - average[i]);
      errors[i] = pair > 1 ? std::sqrt(squares[i] / (pair - 1) / pair) : 0;
    }
    publish(task, mean, pair > 1 ? &errors : nullptr);
    if (pair > 1 && pair < pairs && task.late && task.late()) {
      task.result.notes.push_back("The time was spent after " + std::to_string(pair) + " of " + std::to_string(pairs) + " pairs of orders.");
      break;
    }
  }
  return Done{};
}

}  // namespace

Status runShapley(AttributionTask& task) {
  const size_t n = task.sources().size();
  const int pairs = task.request.samples > 0 ? task.request.samples : kPairs;
  const int64_t drawn = 2 * int64_t{pairs} * (static_cast<int64_t>(n) - 1) + 2;
  const bool all = n <= kExactSources && (task.request.samples == 0 || int64_t{1} << n <= drawn);
  task.forwardsExpected = all ? int64_t{1} << n : drawn;
  if (Status measured = task.measureNoise(task.target, task.everySource()); !measured) return measured;
  MaskScores scores(task);
  if (Status done = scores.evaluate({task.everySource()}); !done) return done;
  task.takeBase(task.target, {scores.at(task.everySource()), 0});
  return all ? exact(task, scores, n) : sampled(task, scores, n, pairs);
}

}  // namespace winnow
