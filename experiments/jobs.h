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
#include "engine/evaluate/retrieval.h"
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
  std::function<Status(const Effective&)> onEffective;  // of a retrieval: what will run, before it does; an error ends it. May be empty
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
// Stored as an evaluation. What asks nothing of the cache (no policy, 16 bits) is measured all the same: it is what the others stand beside.
Result<RetrievalResult> retrieveRun(const JobContext& context, const Config& config, const RetrieveSpec& spec,
                                    const std::function<void(const RetrievalResult&)>& onPartial = {});
Result<BenchResult> benchRun(const JobContext& context, const Config& config, const BenchSpec& spec);
// Of AttributeSpec::resume, instead of a run: the latest unfinished one of the question; none is an error, or not.
inline constexpr qint64 kResumeLatest = -1, kResumeIfAny = -2;

// Every ablation is stored as it comes, so that a run that was stopped can go on in another.
Result<AttributeResult> attributeRun(const JobContext& context, const Config& config, const AttributeSpec& spec,
                                     const std::function<void(const AttributeResult&)>& onPartial = {});
// The same response attributed under two configurations, or by two methods, one after the other on one engine: two runs, the second with
// the first as what it is compared with. Where the response is not given, the first configuration generates it.
struct AttributionDifferenceSpec {
  AttributeSpec spec;
  Config a, b;
  QString methodB;  // of the second side; empty = as in the spec. "attention" beside attribot: attention mass against causal effect
};
Result<AttributionDifference> attributeDifferenceRun(const JobContext& context, const AttributionDifferenceSpec& spec,
                                                     const std::function<void(const AttributeResult& side, bool second)>& onPartial = {});

// What a spec asks of the engine: files read, passages joined, and dropped where they do not fit `room` tokens.
struct AttributeQuestion {
  AttributeRequest request;
  int passages = 0, dropped = 0;       // of a list
  std::vector<int> supporting;         // documents marked as such by a data set; may be empty
};
Result<AttributeQuestion> attributeQuestion(const AttributeSpec& spec, const Tokenizer& tokenizer, int room);

// A proxy with a session of its own, as long as the target's where its positions allow.
struct OpenedProxy {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Session> session;
  ProxyModel model() const { return {*session, *engine->tokenizer()}; }
};
Result<OpenedProxy> openProxy(const QString& nameOrPath, int context, const EngineOptions& options, const Progress& progress);

// Why a run failed, where the model file itself is the reason: values in it that are no numbers. Else the error as it is.
Error explained(const Engine& engine, const Error& error);
Error noTokenizer();                           // what a model without a vocabulary is told
QString epochLabel(const EngineEvent& event);  // "weights.bits 16 → 4"

}  // namespace winnow
