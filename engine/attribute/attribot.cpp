// SPDX-License-Identifier: GPL-3.0-or-later
// AttriBoT: leave-one-out made cheap by what can be reused, left out early or asked of a smaller model (Liu, Kandpal, Raffel, ICLR 2025).
#include <algorithm>
#include <numeric>

#include "engine/attribute/methods.h"

namespace winnow {
namespace {

using Groups = std::vector<std::vector<size_t>>;

// A coarser unit: its pieces that hold sources still kept, and the sources of each.
struct Level {
  AttributionLevel scores{};
  Groups groups{};
};

Level levelOf(const AttributionTask& task, SourceUnit unit, const std::vector<bool>& keep) {
  Level level;
  level.scores.unit = unit;
  size_t at = 0;
  for (Source& piece : splitSources(task.request.context, unit)) {
    std::vector<size_t> group;
    for (; at < task.sources().size() && task.sources()[at].start < piece.end; ++at)
      if (keep[at]) group.push_back(at);
    if (group.empty()) continue;
    level.groups.push_back(std::move(group));
    level.scores.sources.push_back(std::move(piece));
  }
  return level;
}

std::vector<size_t> ranking(const std::vector<double>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

// Leaves out one group after the other; the `count` best stay, ties by index. Scores are noted in `pieces`, one for each group.
Result<std::vector<bool>> keepBest(AttributionTask& task, ResponseScorer& scorer, const std::vector<bool>& keep, const Groups& groups, int count,
                                   const std::string& what, std::vector<Source>& pieces) {
  std::vector<double> scores(groups.size());
  const LeaveOut plan{scorer, keep, groups, task.request.attribot.reuse, false, what};
  const Status done = leaveOut(task, plan, [&](size_t group, LeftOut&& left) {
    scores[group] = left.score;
    pieces[group].score = left.score;
    pieces[group].ablatedLogProb = left.logProb;
    pieces[group].perToken = std::move(left.perToken);
  });
  if (!done) return done.error();
  const std::vector<size_t> order = ranking(scores);
  std::vector<bool> kept(keep.size(), false);
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    for (const size_t source : groups[order[i]]) kept[source] = true;
  return kept;
}

bool more(const Groups& groups, int keep) { return groups.size() > static_cast<size_t>(keep); }

}  // namespace

Result<AttribotOptions> parseTricks(std::string_view words) {
  AttribotOptions options;
  options.reuse = options.hierarchy = false;
  for (size_t at = 0; at <= words.size();) {
    const size_t end = std::min(words.find(',', at), words.size());
    const std::string_view word = words.substr(at, end - at);
    at = end + 1;
    if (word == "reuse")
      options.reuse = true;
    else if (word == "hierarchy")
      options.hierarchy = true;
    else if (word == "prune" || word == "replace")
      options.proxy = word == "prune" ? AttribotOptions::Proxy::prune : AttribotOptions::Proxy::replace;
    else if (word != "none")
      return Error{ErrorCode::usage, "\"" + std::string(word) + "\" is no trick of attribot.", "Use reuse, hierarchy and prune or replace, with commas between, or none."};
  }
  return options;
}

std::string tricksText(const AttribotOptions& options) {
  return std::string(options.reuse ? "reuse," : "") + (options.hierarchy ? "hierarchy," : "") + (options.proxy == AttribotOptions::Proxy::prune ? "prune" : "replace");
}

Status runAttribot(AttributionTask& task) {
  const AttribotOptions& options = task.request.attribot;
  const bool prunes = task.proxy && options.proxy == AttribotOptions::Proxy::prune;
  ResponseScorer& scout = task.proxy ? *task.proxy : task.target;
  std::vector<bool> keep = task.everySource();
  const size_t all = keep.size();
  const int64_t last = prunes ? options.keepSources + 1 : 0;
  const auto expect = [&](int64_t more) { task.forwardsExpected = task.result.forwards + task.result.knownForwards + more + last; };
  expect(static_cast<int64_t>(all) + 1);
  const auto choose = [&](AttributionLevel scores, const Groups& groups, int count) -> Status {
    auto kept = keepBest(task, scout, keep, groups, count, std::string(sourceUnitName(scores.unit)), scores.sources);
    if (!kept) return kept.error();
    keep = std::move(*kept);
    scores.proxy = task.proxy != nullptr;
    task.result.levels.push_back(std::move(scores));
    task.partial();
    return Done{};
  };
  std::vector<std::pair<SourceUnit, int>> coarser;
  if (options.hierarchy) coarser = {{SourceUnit::paragraph, options.keepParagraphs}};
  if (options.hierarchy && task.result.unit == SourceUnit::window) coarser.emplace_back(SourceUnit::sentence, options.keepSentences);
  for (const auto& [unit, count] : coarser) {
    Level level = levelOf(task, unit, keep);
    const auto kept = static_cast<size_t>(std::ranges::count(keep, true));
    if (!more(level.groups, count) || level.groups.size() >= kept) continue;
    if (Status chosen = choose(std::move(level.scores), level.groups, count); !chosen) return chosen;
    expect(std::ranges::count(keep, true) + 1);
  }
  if (prunes && more(singles(keep), options.keepSources)) {
    AttributionLevel finest{task.result.unit, {}, true};
    for (const auto& group : singles(keep)) finest.sources.push_back(task.sources()[group.front()]);
    const Groups groups = singles(keep);
    if (Status chosen = choose(std::move(finest), groups, options.keepSources); !chosen) return chosen;
    expect(1);
  }
  if (const auto kept = static_cast<size_t>(std::ranges::count(keep, true)); kept < all)
    task.result.notes.push_back("Scores are of what was kept, " + std::to_string(kept) + " of " + std::to_string(all) +
                                " sources, in a context of those alone: they compare with each other, not with leave-one-out in the whole context.");
  return scoreSources(task, prunes ? task.target : scout, keep, options.reuse);
}

}  // namespace winnow
