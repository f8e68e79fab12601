// SPDX-License-Identifier: GPL-3.0-or-later
// Forwards of an attribution: counted, reported, stopped, and not done again where an earlier run knows what came out.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "engine/attribute/method.h"

namespace winnow {
namespace {

Error cancelled() { return {ErrorCode::cancelled, "The attribution was cancelled.", ""}; }

}  // namespace

Result<AttentionMass> ResponseScorer::attention(const std::string&, const std::vector<Source>&, bool) {
  return Error{ErrorCode::usage, "Attention can't be read here.", "Use a model."};
}

Status ResponseScorer::scoreAll(std::span<const std::string> contexts, const OnScore& onScore) {
  for (size_t i = 0; i < contexts.size(); ++i) {
    auto scored = score(contexts[i]);
    if (!scored) return scored.error();
    if (Status taken = onScore(i, std::move(*scored)); !taken) return taken;
  }
  return Done{};
}

double sum(const std::vector<double>& logProbs) { return std::accumulate(logProbs.begin(), logProbs.end(), 0.0); }

double AttributionTask::total(const ResponseScorer& scorer, const std::vector<double>& logProbs) const {
  auto [first, last] = &scorer == proxy ? proxySpan : span;
  if (last == 0) return sum(logProbs);
  last = std::min(last, static_cast<int>(logProbs.size()));
  return first < last ? std::accumulate(logProbs.begin() + first, logProbs.begin() + last, 0.0) : 0.0;
}

void AttributionTask::report(const std::string& what) const {
  const auto done = static_cast<double>(result.forwards + result.knownForwards);
  progress(std::min(done / static_cast<double>(std::max<int64_t>(forwardsExpected, 1)), 1.0), what);
}

const Outcome* AttributionTask::known(const ResponseScorer& scorer, const std::vector<bool>& keep) const {
  if (!request.known) return nullptr;
  const auto from = &scorer == proxy ? Outcome::From::proxy : Outcome::From::target;
  for (const auto& outcome : request.known->outcomes)
    if (outcome->from == from && outcome->keep == keep) return outcome.get();
  return nullptr;
}

Result<ResponseScore> AttributionTask::takeKnown(const ResponseScorer& scorer, const std::vector<bool>& keep, const Outcome& outcome) {
  ++result.knownForwards;
  result.outcomes.push_back(std::make_shared<Outcome>(Outcome{outcome.from, keep, outcome.logProbs, outcome.tokensFed}));
  return ResponseScore{outcome.logProbs, 0, scorer.promptTokens(contextOf(keep))};
}

void AttributionTask::take(const ResponseScorer& scorer, const std::vector<bool>& keep, const ResponseScore& score) {
  const bool small = &scorer == proxy;
  ++result.forwards;
  result.forwardTokens += score.tokensFed;
  if (small) {
    ++result.proxyForwards;
    result.proxyForwardTokens += score.tokensFed;
  }
  result.outcomes.push_back(std::make_shared<Outcome>(Outcome{small ? Outcome::From::proxy : Outcome::From::target, keep, score.logProbs, score.tokensFed}));
}

Result<ResponseScore> AttributionTask::score(ResponseScorer& scorer, const std::vector<bool>& keep, const std::string& what) {
  if (progress.stopped()) return cancelled();
  report(what);
  if (const Outcome* outcome = known(scorer, keep)) return takeKnown(scorer, keep, *outcome);
  auto scored = scorer.score(contextOf(keep));
  if (scored) take(scorer, keep, *scored);
  return scored;
}

Status AttributionTask::scoreAll(ResponseScorer& scorer, std::span<const std::vector<bool>> keeps, const std::string& what, const ResponseScorer::OnScore& onScore) {
  std::vector<size_t> unknown;
  std::vector<std::string> contexts;
  for (size_t i = 0; i < keeps.size(); ++i) {
    if (const Outcome* outcome = known(scorer, keeps[i])) {
      auto scored = takeKnown(scorer, keeps[i], *outcome);
      if (!scored) return scored.error();
      if (Status taken = onScore(i, std::move(*scored)); !taken) return taken;
      continue;
    }
    unknown.push_back(i);
    contexts.push_back(contextOf(keeps[i]));
  }
  if (progress.stopped()) return cancelled();
  if (unknown.empty()) return Done{};
  report(what);
  size_t done = 0;
  return scorer.scoreAll(contexts, [&](size_t index, ResponseScore&& scored) -> Status {
    take(scorer, keeps[unknown[index]], scored);
    report(what);
    const Status taken = onScore(unknown[index], std::move(scored));
    return taken && ++done < unknown.size() && progress.stopped() ? Status(cancelled()) : taken;
  });
}

double noiseOf(const std::vector<double>& scores) {
  if (scores.size() < 2) return 0;
  const double mean = sum(scores) / static_cast<double>(scores.size());
  double squared = 0;
  for (const double score : scores) squared += (score - mean) * (score - mean);
  return 3 * std::sqrt(squared / static_cast<double>(scores.size() - 1));
}

Status AttributionTask::measureNoise(ResponseScorer& scorer, const std::vector<bool>& keep) {
  result.noiseLogProbs.clear();
  if (!measuresNoise) return Done{};
  if (request.known)
    for (const auto& outcome : request.known->outcomes)
      if (outcome->from == Outcome::From::noise && outcome->keep == keep) result.noiseLogProbs.push_back(outcome->logProbs);
  if (result.noiseLogProbs.empty()) {
    const auto began = std::chrono::steady_clock::now();
    auto scores = scorer.otherChunkings(contextOf(keep));
    if (!scores) return scores.error();
    for (ResponseScore& score : *scores) {
      ++result.noiseForwards;
      result.noiseForwardTokens += score.tokensFed;
      result.noiseLogProbs.push_back(std::move(score.logProbs));
    }
    result.noiseMs += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
  }
  std::vector<double> totals;
  for (const auto& logProbs : result.noiseLogProbs) {
    result.outcomes.push_back(std::make_shared<Outcome>(Outcome{Outcome::From::noise, keep, logProbs, 0}));
    totals.push_back(total(scorer, logProbs));
  }
  result.noiseFloor = noiseOf(totals);
  return Done{};
}

void AttributionTask::takeBase(const ResponseScorer& scorer, const ResponseScore& base) {
  result.baseLogProb = total(scorer, base.logProbs);
  result.responseNll.clear();
  for (const double logProb : base.logProbs) result.responseNll.push_back(static_cast<float>(-logProb));
}

void AttributionTask::partial() const {
  if (onPartial) onPartial(result);
}

}  // namespace winnow
