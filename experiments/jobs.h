// SPDX-License-Identifier: GPL-3.0-or-later
// The experiments as plain functions on the calling thread: the window's engine thread, the plan runner and tests call the
// same code. Each records its run (RunRecorder) and answers with its result; a stop keeps what is done and marks the run
// cancelled.
#pragma once
#include <functional>
#include <memory>

#include "engine/attribute/attribute.h"
#include "engine/evaluate/bench.h"
#include "engine/evaluate/perplexity.h"
#include "engine/run/engine.h"
#include "experiments/plan_file.h"
#include "experiments/text_file.h"
#include "experiments/types.h"
#include "storage/session_file.h"

namespace winnow {

// Where a job runs and what it belongs to.
struct JobContext {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<storage::SessionFile> file;  // null: nothing is recorded
  Progress progress;
  std::string name;                            // of the run
  std::optional<storage::Id> sweep;            // of a plan
  int sweepOrdinal = -1, repeat = 0;
  std::function<void(storage::Id)> onRun;      // the run's id once it has begun; may be empty
};

struct GenerateObserver {                      // all may be empty; called on the working thread
  std::function<void(const TokenPoint&)> onToken;
  std::function<void(const EpochPoint&)> onEpoch;
  std::function<void(const EngineEvent&)> onEvent;
  std::function<void()> onBoundary;            // after each token: a chance to look at the session
};
struct GenerateResult {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<double> tokenMs, nll;            // of new tokens
  double prefillMs = 0;
  bool stopped = false;
  storage::Id run = -1;
};

Result<GenerateResult> generateRun(const JobContext& context, Session& session, const GenerateRequest& request, const GenerateObserver& observer = {});
// The baseline session is made by the job when the spec asks for one.
Result<PerplexityResult> evaluateRun(const JobContext& context, const Config& config, const EvaluateSpec& spec,
                                     const std::function<void(const PerplexityResult&)>& onPartial = {});
Result<BenchResult> benchRun(const JobContext& context, const Config& config, const BenchSpec& spec);
Result<AttributeResult> attributeRun(const JobContext& context, const Config& config, const AttributeSpec& spec,
                                     const std::function<void(const AttributeResult&)>& onPartial = {});

// Why a run failed, where the model file itself is the reason: values in it that are no numbers. Else the error as it is.
Error explained(const Engine& engine, const Error& error);
Error noTokenizer();                           // what a model without a vocabulary is told
QString epochLabel(const EngineEvent& event);  // "weights.bits 16 → 4"

}  // namespace winnow
