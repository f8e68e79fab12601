// SPDX-License-Identifier: GPL-3.0-or-later
// Leaving out groups of sources, one forward each; what the leave-one-out methods share.
#include <algorithm>

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

Status leaveOut(AttributionTask& task, const LeaveOut& plan, const std::function<void(size_t group, LeftOut&&)>& onScore) {
  plan.scorer.reusePrefix(plan.reuse);
  const std::string whole = task.contextOf(plan.keep);
  const auto base = task.score(plan.scorer, plan.keep, "whole context");
  if (!base) return base.error();
  if (plan.final) task.takeBase(plan.scorer, *base);
  const size_t count = plan.groups.size();
  const double full = task.total(plan.scorer, base->logProbs);
  size_t seams = 0, done = 0;
  bool spent = false;
  const auto take = [&](size_t group, const ResponseScore& without) -> Status {
    seams += seamChanged(base->prompt, without.prompt);
    LeftOut left;
    left.logProb = task.total(plan.scorer, without.logProbs);
    left.score = full - left.logProb;
    for (size_t t = 0; t < base->logProbs.size(); ++t) left.perToken.push_back(static_cast<float>(base->logProbs[t] - without.logProbs[t]));
    onScore(group, std::move(left));
    spent = plan.final && ++done < count && task.late && task.late();
    return spent ? Status(Error{ErrorCode::cancelled, "The time is spent.", ""}) : Status(Done{});
  };
  std::vector<size_t> order = plan.order;
  for (size_t i = 0; order.size() < count; ++i) order.push_back(plan.reuse ? count - 1 - i : i);
  std::vector<size_t> groups;
  std::vector<std::vector<bool>> keeps;
  Status result = Done{};
  for (const size_t group : order) {
    std::vector<bool> keep = plan.keep;
    for (const size_t source : plan.groups[group]) keep[source] = false;
    if (plan.reuse && task.contextOf(keep) == whole) {
      if (result = take(group, *base); !result) break;
      continue;
    }
    groups.push_back(group);
    keeps.push_back(std::move(keep));
  }
  if (result)
    result = task.scoreAll(plan.scorer, keeps, plan.what + "s left out, " + std::to_string(keeps.size()),
                           [&](size_t index, ResponseScore&& without) { return take(groups[index], without); });
  if (seams > 0)
    task.result.notes.push_back("Leaving out " + std::to_string(seams) + " of " + std::to_string(count) + " " + plan.what +
                                "s changed how the text beside the cut is split into tokens; every context was tokenized anew.");
  if (!spent) return result;
  task.result.notes.push_back("The time was spent after " + std::to_string(done) + " of " + std::to_string(count) + " " + plan.what + "s; the others have no score.");
  return Done{};
}

std::vector<std::vector<size_t>> singles(const std::vector<bool>& keep) {
  std::vector<std::vector<size_t>> groups;
  for (size_t i = 0; i < keep.size(); ++i)
    if (keep[i]) groups.push_back({i});
  return groups;
}

Status scoreSources(AttributionTask& task, ResponseScorer& scorer, const std::vector<bool>& keep, bool reuse) {
  if (Status measured = task.measureNoise(scorer, keep); !measured) return measured;
  const LeaveOut plan{scorer, keep, singles(keep), reuse, true};
  return leaveOut(task, plan, [&](size_t group, LeftOut&& left) {
    Source& source = task.result.sources[plan.groups[group].front()];
    source.score = left.score;
    source.ablatedLogProb = left.logProb;
    source.perToken = std::move(left.perToken);
    task.partial();
  });
}

}  // namespace winnow
