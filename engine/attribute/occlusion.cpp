// SPDX-License-Identifier: GPL-3.0-or-later
// Occlusion: leave-one-out of windows of tokens, whatever sentences they belong to.
#include "engine/attribute/methods.h"

namespace winnow {

Status runOcclusion(AttributionTask& task) {
  task.forwardsExpected = static_cast<int64_t>(task.sources().size()) + 1;
  return scoreSources(task, task.target, task.everySource(), true);
}

}  // namespace winnow
