// SPDX-License-Identifier: GPL-3.0-or-later
// Exact leave-one-out: one source after the other, nothing is reused between forwards.
#include "engine/attribute/methods.h"

namespace winnow {

Status runLeaveOneOut(AttributionTask& task) {
  task.forwardsExpected = static_cast<int64_t>(task.sources().size()) + 1;
  return scoreSources(task, task.target, task.everySource(), false);
}

}  // namespace winnow
