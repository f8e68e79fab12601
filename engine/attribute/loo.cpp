// SPDX-License-Identifier: GPL-3.0-or-later
// Exact leave-one-out: nothing is reused between forwards.
#include "engine/attribute/attribute.h"

namespace winnow {
namespace {

double sum(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

Result<ResponseScore> counted(const ContextScorer& score, const std::string& context, AttributeResult& result) {
  auto scored = score(context);
  if (!scored) return scored;
  ++result.forwards;
  result.forwardTokens += scored->tokensFed;
  return scored;
}

}  // namespace

Status leaveOneOut(const std::string& context, const ContextScorer& score, AttributeResult& result, const Progress& progress,
                   const std::function<void(const AttributeResult&)>& onPartial) {
  const double steps = static_cast<double>(result.sources.size()) + 1;
  progress(0.0, "whole context");
  const auto base = counted(score, context, result);
  if (!base) return base.error().code == ErrorCode::cancelled ? Status(Done{}) : Status(base.error());
  result.baseLogProb = sum(base->logProbs);
  result.responseNll.clear();
  for (const double logProb : base->logProbs) result.responseNll.push_back(static_cast<float>(-logProb));
  for (size_t i = 0; i < result.sources.size(); ++i) {
    if (progress.stopped()) return Done{};
    progress(static_cast<double>(i + 1) / steps, "source " + std::to_string(i + 1) + " of " + std::to_string(result.sources.size()));
    const auto without = counted(score, contextWithout(context, result.sources, i), result);
    if (!without) return without.error().code == ErrorCode::cancelled ? Status(Done{}) : Status(without.error());
    Source& source = result.sources[i];
    source.perToken.clear();
    for (size_t t = 0; t < base->logProbs.size(); ++t) source.perToken.push_back(static_cast<float>(base->logProbs[t] - without->logProbs[t]));
    source.score = result.baseLogProb - sum(without->logProbs);
    if (onPartial) onPartial(result);
  }
  result.complete = true;
  return Done{};
}

}  // namespace winnow
