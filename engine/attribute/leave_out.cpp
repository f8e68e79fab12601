// SPDX-License-Identifier: GPL-3.0-or-later
// Leaving out groups of sources, one forward each; what the leave-one-out methods share.
#include <algorithm>
#include <numeric>

#include "engine/attribute/method.h"

namespace winnow {
namespace {

// A cut changes tokens where some are neither of the prefix nor of the suffix that both texts have.
bool seamChanged(const std::vector<int32_t>& whole, const std::vector<int32_t>& cut) {
  const size_t room = std::min(whole.size(), cut.size());
  size_t prefix = 0, suffix = 0;
  while (prefix < room && whole[prefix] == cut[prefix]) ++prefix;
  while (suffix < room - prefix && whole[whole.size() - 1 - suffix] == cut[cut.size() - 1 - suffix]) ++suffix;
  return prefix + suffix < cut.size();
}

}  // namespace

Result<AttentionMass> ResponseScorer::attention(const std::string&, const std::vector<Source>&, bool) {
  return Error{ErrorCode::usage, "Attention can't be read here.", "Use a model."};
}

double sum(const std::vector<double>& logProbs) { return std::accumulate(logProbs.begin(), logProbs.end(), 0.0); }

Result<ResponseScore> AttributionTask::score(ResponseScorer& scorer, const std::string& context, const std::string& what) {
  if (progress.stopped()) return Error{ErrorCode::cancelled, "The attribution was cancelled.", ""};
  const double share = static_cast<double>(result.forwards) / static_cast<double>(std::max<int64_t>(forwardsExpected, 1));
  progress(std::min(share, 1.0), what);
  auto scored = scorer.score(context);
  if (!scored) return scored;
  ++result.forwards;
  result.forwardTokens += scored->tokensFed;
  if (&scorer == proxy) {
    ++result.proxyForwards;
    result.proxyForwardTokens += scored->tokensFed;
  }
  return scored;
}

void AttributionTask::takeBase(const ResponseScore& base) {
  result.baseLogProb = sum(base.logProbs);
  result.responseNll.clear();
  for (const double logProb : base.logProbs) result.responseNll.push_back(static_cast<float>(-logProb));
}

void AttributionTask::partial() const {
  if (onPartial) onPartial(result);
}

Status leaveOut(AttributionTask& task, const LeaveOut& plan, const std::function<void(size_t group, LeftOut&&)>& onScore) {
  plan.scorer.reusePrefix(plan.reuse);
  const std::string whole = task.contextOf(plan.keep);
  const auto base = task.score(plan.scorer, whole, "whole context");
  if (!base) return base.error();
  if (plan.final) task.takeBase(*base);
  const size_t count = plan.groups.size();
  size_t seams = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t group = plan.reuse ? count - 1 - i : i;
    std::vector<bool> keep = plan.keep;
    for (const size_t source : plan.groups[group]) keep[source] = false;
    const std::string text = task.contextOf(keep);
    const bool same = plan.reuse && text == whole;
    const auto without = same ? base : task.score(plan.scorer, text, plan.what + " " + std::to_string(group + 1) + " of " + std::to_string(count));
    if (!without) return without.error();
    seams += seamChanged(base->prompt, without->prompt);
    LeftOut left;
    left.score = sum(base->logProbs) - sum(without->logProbs);
    for (size_t t = 0; t < base->logProbs.size(); ++t) left.perToken.push_back(static_cast<float>(base->logProbs[t] - without->logProbs[t]));
    onScore(group, std::move(left));
  }
  if (seams > 0)
    task.result.notes.push_back("Leaving out " + std::to_string(seams) + " of " + std::to_string(count) + " " + plan.what +
                                "s changed how the text beside the cut is split into tokens; every context was tokenized anew.");
  return Done{};
}

std::vector<std::vector<size_t>> singles(const std::vector<bool>& keep) {
  std::vector<std::vector<size_t>> groups;
  for (size_t i = 0; i < keep.size(); ++i)
    if (keep[i]) groups.push_back({i});
  return groups;
}

Status scoreSources(AttributionTask& task, ResponseScorer& scorer, const std::vector<bool>& keep, bool reuse) {
  if (Status measured = scorer.measureNoise(task.contextOf(keep), task.result); !measured) return measured;
  const LeaveOut plan{scorer, keep, singles(keep), reuse, true};
  return leaveOut(task, plan, [&](size_t group, LeftOut&& left) {
    Source& source = task.result.sources[plan.groups[group].front()];
    source.score = left.score;
    source.perToken = std::move(left.perToken);
    task.partial();
  });
}

}  // namespace winnow
