// SPDX-License-Identifier: GPL-3.0-or-later
// AttriBoT: leave-one-out made cheap by what can be reused, left out early or asked of a smaller model (Liu, Kandpal, Raffel, ICLR 2025).
#include <algorithm>
#include <numeric>

#include "engine/attribute/methods.h"

namespace winnow {
namespace {

using Groups = std::vector<std::vector<size_t>>;

// The sources of each paragraph.
Groups paragraphsOf(const AttributionTask& task) {
  Groups groups;
  size_t at = 0;
  for (const Source& paragraph : splitSources(task.request.context, SourceUnit::paragraph)) {
    std::vector<size_t> group;
    while (at < task.sources().size() && task.sources()[at].start < paragraph.end) group.push_back(at++);
    if (!group.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

// Leaves out one group after the other; the `count` best stay, ties by index.
Result<std::vector<bool>> keepBest(AttributionTask& task, ResponseScorer& scorer, const std::vector<bool>& keep, const Groups& groups, int count,
                                   const std::string& what) {
  std::vector<double> scores(groups.size());
  const LeaveOut plan{scorer, keep, groups, task.request.attribot.reuse, false, what};
  if (Status done = leaveOut(task, plan, [&](size_t group, LeftOut&& left) { scores[group] = left.score; }); !done) return done.error();
  std::vector<size_t> order(groups.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
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
  const Groups paragraphs = paragraphsOf(task);
  const bool hierarchy = options.hierarchy && more(paragraphs, options.keepParagraphs) && paragraphs.size() < all;
  task.forwardsExpected = static_cast<int64_t>(all) + 1 + (prunes ? options.keepSources + 1 : 0);
  if (hierarchy) {
    auto kept = keepBest(task, scout, keep, paragraphs, options.keepParagraphs, "paragraph");
    if (!kept) return kept.error();
    keep = std::move(*kept);
    task.forwardsExpected = task.result.forwards + std::ranges::count(keep, true) + 1 + (prunes ? options.keepSources + 1 : 0);
  }
  if (prunes && more(singles(keep), options.keepSources)) {
    auto kept = keepBest(task, scout, keep, singles(keep), options.keepSources, "source");
    if (!kept) return kept.error();
    keep = std::move(*kept);
    task.forwardsExpected = task.result.forwards + options.keepSources + 1;
  }
  if (const auto kept = static_cast<size_t>(std::ranges::count(keep, true)); kept < all)
    task.result.notes.push_back("Scores are of what was kept, " + std::to_string(kept) + " of " + std::to_string(all) +
                                " sources, in a context of those alone: they compare with each other, not with leave-one-out in the whole context.");
  return scoreSources(task, prunes ? task.target : scout, keep, options.reuse);
}

}  // namespace winnow
