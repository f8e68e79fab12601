// SPDX-License-Identifier: GPL-3.0-or-later
// Runs a plan into a session file. Its points are stored before the first one starts; what is done is never done again, so
// cancel, crash and "go on another evening" are one code path.
#pragma once
#include <functional>
#include <memory>

#include "experiments/jobs.h"
#include "experiments/plan_file.h"
#include "storage/session_file.h"

namespace winnow {

struct PlanPointState {
  int ordinal = 0, points = 0;
  QString settings, kind;                 // "weights.bits=4 ...", "evaluate"
  storage::PointState state = storage::PointState::todo;
  QString note;                           // why it was skipped or failed
};
struct PlanSummary {
  storage::Id sweep = -1;
  int done = 0, failed = 0, skipped = 0, before = 0;  // before: done in an earlier run of the plan
  int adjusted = 0;                                   // of those done: the engine did something else than was asked for
  std::optional<Error> firstError;                    // of a point that failed
  int points() const { return done + failed + skipped + before; }
};

// resume: goes on with the same plan in this file (matched by what it does, not by its name); a changed plan is refused, and so is
// without it a plan that is already there. Each point is on the disk before it is told to be done.
// A point whose knobs the model refuses is skipped with the reason. Errors: cancelled (what is done stays), unusable model or file.
Result<PlanSummary> runPlan(const PlanFile& plan, std::shared_ptr<storage::SessionFile> file, const EngineOptions& options, bool resume,
                            const Progress& progress, const std::function<void(const PlanPointState&)>& onPoint = {});

}  // namespace winnow
