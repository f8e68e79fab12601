// SPDX-License-Identifier: GPL-3.0-or-later
// Attention read as attribution, one forward: its sum over layers from the positions that predict the response, and its rollout through
// them. A contrast to what leaving out shows, not a measure of it.
#include <cstdio>

#include "engine/attribute/methods.h"

namespace winnow {
namespace {

Status readAttention(AttributionTask& task, bool rollout) {
  task.forwardsExpected = 1;
  task.target.reusePrefix(false);
  auto read = task.target.attention(task.request.context, task.sources(), rollout);
  if (!read) return read.error();
  ++task.result.forwards;
  task.result.forwardTokens += read->response.tokensFed;
  task.takeBase(task.target, read->response);
  for (size_t i = 0; i < task.sources().size(); ++i) {
    Source& source = task.result.sources[i];
    source.score = task.total(task.target, read->mass[i]);
    source.perToken.assign(read->mass[i].begin(), read->mass[i].end());
  }
  char text[200];
  std::snprintf(text, sizeof text, "Scores are %s, not nats. The first token, where attention rests that seeks nothing, is left out; it has %.0f %% of it.",
                rollout ? "attention rolled out through the layers" : "attention summed over the layers", 100 * read->firstTokenShare);
  task.result.notes.emplace_back(text);
  task.partial();
  return Done{};
}

}  // namespace

Status runAttention(AttributionTask& task) { return readAttention(task, false); }
Status runRollout(AttributionTask& task) { return readAttention(task, true); }

}  // namespace winnow
