// SPDX-License-Identifier: GPL-3.0-or-later
// ContextCite: a sparse linear model of the response's log-odds over random subsets of the sources (Cohen-Wang et al., NeurIPS 2024).
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>

#include "engine/attribute/agreement.h"
#include "engine/attribute/lasso.h"
#include "engine/attribute/mask_scores.h"
#include "engine/attribute/methods.h"

namespace winnow {
namespace {

constexpr int kMasks = 64;
constexpr double kAlpha = 0.01;
constexpr size_t kRound = 16;  // masks between two partial results
constexpr size_t kFolds = 4;

double logOdds(double logProb) {
  const double a = std::min(logProb, -1e-7);
  return a - (a > -std::numbers::ln2 ? std::log(-std::expm1(a)) : std::log1p(-std::exp(a)));
}

// All subsets where they are no more than the masks asked for, else random ones, each source kept with probability 1/2.
std::vector<Mask> drawMasks(size_t sources, size_t count, uint64_t seed) {
  std::vector<Mask> masks;
  if (sources < 32 && size_t{1} << sources <= count) {
    for (uint64_t bits = 0; bits < uint64_t{1} << sources; ++bits) masks.push_back(maskOf(bits, sources));
    return masks;
  }
  std::mt19937_64 random(seed);
  while (masks.size() < count) {
    Mask mask(sources);
    for (size_t i = 0; i < sources; ++i) mask[i] = random() >> 63 != 0;
    masks.push_back(std::move(mask));
  }
  return masks;
}

struct Design {
  std::vector<std::vector<double>> rows;  // [masks][sources] 0 or 1
  std::vector<const std::vector<double>*> logProbs;  // [masks][response tokens]
  size_t tokens() const { return logProbs.front()->size(); }
};

// Weights of a span of response tokens [first, last), in log-odds.
LassoFit fitSpan(const Design& design, size_t first, size_t last) {
  const auto length = static_cast<double>(last - first);
  std::vector<double> y;
  for (const auto* logProbs : design.logProbs) {
    double total = 0;
    for (size_t t = first; t < last; ++t) total += (*logProbs)[t];
    y.push_back(logOdds(total) / length);
  }
  LassoFit fit = lasso(design.rows, y, kAlpha);
  for (double& weight : fit.weights) weight *= length;
  fit.intercept *= length;
  return fit;
}

// Rank correlation of the true outcomes of masks and those predicted by a fit that has not seen them.
std::optional<double> confidence(const Design& design, size_t first, size_t last) {
  const size_t count = design.rows.size();
  if (count < 2 * kFolds) return std::nullopt;
  std::vector<double> predicted(count), truth(count);
  for (size_t fold = 0; fold < kFolds; ++fold) {
    Design seen;
    for (size_t i = 0; i < count; ++i) {
      if (i % kFolds == fold) continue;
      seen.rows.push_back(design.rows[i]);
      seen.logProbs.push_back(design.logProbs[i]);
    }
    const LassoFit fit = fitSpan(seen, first, last);
    for (size_t i = fold; i < count; i += kFolds) predicted[i] = fit.predict(design.rows[i]);
  }
  for (size_t i = 0; i < count; ++i) truth[i] = logOdds(std::accumulate(design.logProbs[i]->begin() + static_cast<std::ptrdiff_t>(first), design.logProbs[i]->begin() + static_cast<std::ptrdiff_t>(last), 0.0));
  return spearman(predicted, truth);
}

void publish(AttributionTask& task, const Design& design, bool last) {
  const size_t tokens = design.tokens();
  const size_t first = static_cast<size_t>(task.span.first), end = task.span.second > 0 ? static_cast<size_t>(task.span.second) : tokens;
  const LassoFit whole = fitSpan(design, first, end);
  for (size_t i = 0; i < whole.weights.size(); ++i) task.result.sources[i].score = whole.weights[i];
  if (last) {
    for (Source& source : task.result.sources) source.perToken.clear();
    for (size_t t = 0; t < tokens; ++t) {
      const LassoFit one = fitSpan(design, t, t + 1);
      for (size_t i = 0; i < one.weights.size(); ++i) task.result.sources[i].perToken.push_back(static_cast<float>(one.weights[i]));
    }
    task.result.confidence = confidence(design, first, end);
  }
  task.partial();
}

}  // namespace

Status runContextCite(AttributionTask& task) {
  const size_t n = task.sources().size();
  const std::vector<Mask> masks = drawMasks(n, static_cast<size_t>(task.request.samples > 0 ? task.request.samples : kMasks), task.request.seed);
  task.forwardsExpected = static_cast<int64_t>(masks.size()) + 1;
  MaskScores scores(task);
  if (Status done = scores.evaluate({task.everySource()}); !done) return done;
  task.takeBase(task.target, {scores.at(task.everySource()), 0});
  Design design;
  for (size_t at = 0; at < masks.size(); at += kRound) {
    const std::vector<Mask> round(masks.begin() + static_cast<std::ptrdiff_t>(at), masks.begin() + static_cast<std::ptrdiff_t>(std::min(at + kRound, masks.size())));
    if (Status done = scores.evaluate(round); !done) return done;
    for (const Mask& mask : round) {
      design.rows.emplace_back(mask.begin(), mask.end());
      design.logProbs.push_back(&scores.at(mask));
    }
    const bool spent = at + kRound < masks.size() && task.late && task.late();
    publish(task, design, spent || at + kRound >= masks.size());
    if (spent) {
      task.result.notes.push_back("The time was spent after " + std::to_string(design.rows.size()) + " of " + std::to_string(masks.size()) + " contexts.");
      break;
    }
  }
  task.result.notes.push_back("Scores are weights of the response's log-odds: 2.3 is about ten times the odds.");
  return Done{};
}

}  // namespace winnow
