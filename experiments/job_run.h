// SPDX-License-Identifier: GPL-3.0-or-later
// How every job begins the record of its run, and ends it when it fails.
#pragma once
#include "experiments/jobs.h"
#include "experiments/recorder.h"

namespace winnow {

inline storage::NewRun describe(const JobContext& context, storage::RunKind kind) {
  storage::NewRun run;
  run.kind = kind;
  run.name = context.name;
  run.repeat = context.repeat;
  run.sweep = context.sweep;
  run.sweepOrdinal = context.sweepOrdinal;
  return run;
}

// A failed or cancelled run is finished as such, with the sentence that a person sees.
template <class T>
Result<T> closed(const JobContext& context, RunRecorder& recorder, const Error& raw) {
  const Error error = explained(*context.engine, raw);
  recorder.finish(error.code == ErrorCode::cancelled ? storage::RunStatus::cancelled : storage::RunStatus::failed, error.message);
  return error;
}

}  // namespace winnow
