// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution as an experiment: the question put together, a proxy opened, the run recorded as it goes, two sides compared.
#include <QFileInfo>
#include <algorithm>
#include <chrono>
#include <map>

#include "experiments/attribution_record.h"
#include "experiments/context_file.h"
#include "experiments/job_run.h"
#include "experiments/model_source.h"

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kStoreSeconds = 1;  // between two stores of the whole table; outcomes are stored at once

int tokensOf(const Tokenizer& tokenizer, const std::string& context, const std::string& question) {
  return static_cast<int>(tokenizer.encode(attributionPrompt(context, question), true).size());
}

// Those passages, in order, that fit `room` tokens beside the question; marked ones come first. Empty: the marked alone do not.
std::vector<Passage> fitting(const std::vector<Passage>& passages, const Tokenizer& tokenizer, const std::string& question, int room) {
  std::vector<bool> keep;
  for (const Passage& passage : passages) keep.push_back(passage.supporting);
  const auto kept = [&] {
    std::vector<Passage> out;
    for (size_t i = 0; i < passages.size(); ++i)
      if (keep[i]) out.push_back(passages[i]);
    return out;
  };
  const auto fits = [&] { return tokensOf(tokenizer, joinPassages(kept()).text, question) <= room; };
  if (!fits()) return {};
  for (size_t i = 0; i < passages.size(); ++i) {
    if (keep[i]) continue;
    keep[i] = true;
    if (!fits()) keep[i] = false;
  }
  return kept();
}

Status takePassages(AttributeQuestion& question, const std::vector<Passage>& all, bool fit, const Tokenizer& tokenizer, int room) {
  const std::vector<Passage> kept = fit ? fitting(all, tokenizer, question.request.question, room) : all;
  if (kept.empty() && !all.empty())
    return Error{ErrorCode::badInput, "The question and the passages that must stay do not fit the model's context: " + std::to_string(room) + " tokens are left beside the response.",
                 "Use a model with a longer context or shorter passages."};
  ContextText joined = joinPassages(kept);
  question.request.context = std::move(joined.text);
  question.request.documents = std::move(joined.documents);
  question.passages = static_cast<int>(all.size());
  question.dropped = static_cast<int>(all.size() - kept.size());
  for (size_t i = 0; i < kept.size(); ++i)
    if (kept[i].supporting) question.supporting.push_back(static_cast<int>(i));
  return Done{};
}

int roomFor(const AttributeRequest& request, const Tokenizer& tokenizer, int room) {
  const int response = request.response ? static_cast<int>(tokenizer.encode(*request.response, false).size()) + 1 : request.responseTokens;
  return room - response;
}

Status takeQuestion(AttributeQuestion& out, const AttributeSpec& spec, const Tokenizer& tokenizer, int room) {
  const auto questions = readQuestions(spec.dataPath, spec.item + 1);
  if (!questions) return questions.error();
  if (spec.item < 0 || static_cast<size_t>(spec.item) >= questions->size())
    return Error{ErrorCode::badInput, spec.dataPath.toStdString() + " has " + std::to_string(questions->size()) + " questions; number " + std::to_string(spec.item + 1) + " was asked for.", ""};
  const Question& question = (*questions)[static_cast<size_t>(spec.item)];
  out.request.question = question.question;
  if (question.response) out.request.response = question.response;
  if (question.passages.empty()) {
    out.request.context = question.context;
    return Done{};
  }
  return takePassages(out, question.passages, true, tokenizer, roomFor(out.request, tokenizer, room));
}

Status takeContext(AttributeQuestion& out, const AttributeSpec& spec, const Tokenizer& tokenizer, int room) {
  if (spec.contextPath.isEmpty()) {
    out.request.context = spec.context.toStdString();
    out.request.documents = spec.documents;
    out.request.ranges = spec.ranges;
    if (!spec.fit || spec.documents.empty()) return Done{};
    std::vector<Passage> passages;
    for (const Document& document : spec.documents)
      passages.push_back({document.id, document.title, out.request.context.substr(static_cast<size_t>(document.start), static_cast<size_t>(document.end - document.start))});
    return takePassages(out, passages, true, tokenizer, roomFor(out.request, tokenizer, room));
  }
  if (holdsPassages(spec.contextPath)) {
    const auto passages = readPassages(spec.contextPath);
    if (!passages) return passages.error();
    out.request.ranges = spec.ranges;  // of the passages joined
    return takePassages(out, *passages, spec.fit, tokenizer, roomFor(out.request, tokenizer, room));
  }
  auto context = readContext(spec.contextPath);
  if (!context) return context.error();
  out.request.context = std::move(context->text);
  out.request.ranges = spec.ranges;
  return Done{};
}

// Keeps the session file up to date with an attribution that goes on.
class Keeper {
 public:
  Keeper(RunRecorder& recorder, const AttributeQuestion& question, std::string proxy, std::optional<storage::Id> comparedWith)
      : recorder_(recorder), question_(question), proxy_(std::move(proxy)), comparedWith_(comparedWith) {}

  void take(const AttributeResult& result, bool last) {
    auto* file = recorder_.file();
    if (!file) return;
    const auto now = Clock::now();
    if (last || stored_ == 0 || std::chrono::duration<double>(now - at_).count() >= kStoreSeconds) {
      storage::AttributionRecord record = attributionRecord(question_.request, result);
      record.proxy = proxy_;
      record.passages = question_.passages;
      record.dropped = question_.dropped;
      record.supporting = question_.supporting;
      record.comparedWith = comparedWith_;
      file->setAttribution(recorder_.id(), record);
      at_ = now;
    }
    std::vector<storage::AttributionOutcome> fresh;
    for (; done_ < result.outcomes.size(); ++done_) fresh.push_back(outcomeRecord(*result.outcomes[done_]));
    file->addOutcomes(recorder_.id(), std::move(fresh));
    ++stored_;
  }

 private:
  RunRecorder& recorder_;
  const AttributeQuestion& question_;
  std::string proxy_;
  std::optional<storage::Id> comparedWith_;
  size_t done_ = 0, stored_ = 0;
  Clock::time_point at_{};
};

// What was asked for, so that runs of one way have one name.
std::string protocolOf(const AttributeRequest& request, const std::string& proxy) {
  const AttribotOptions& options = request.attribot;
  const bool windows = request.unit == SourceUnit::window;
  std::string text = request.method + " " + std::string(sourceUnitName(request.unit)) + (windows ? " of " + std::to_string(request.windowTokens) : "");
  if (request.method == "attribot") {
    text += std::string(options.reuse ? " reuse" : "") + (options.hierarchy ? " hierarchy " + std::to_string(options.keepParagraphs) : "");
    if (options.hierarchy && windows) text += "/" + std::to_string(options.keepSentences);  // paragraphs, sentences of them
    const bool prunes = options.proxy == AttribotOptions::Proxy::prune;
    if (!proxy.empty()) text += (prunes ? " prune " + std::to_string(options.keepSources) : " replace") + " proxy " + QFileInfo(QString::fromStdString(proxy)).fileName().toStdString();
  }
  if (request.samples > 0) text += " " + std::to_string(request.samples) + " samples";
  if (request.seconds > 0) text += " within " + QString::number(request.seconds).toStdString() + " s";
  return text;
}

bool sameConfig(const std::map<std::string, std::string>& stored, const Config& config) {
  const storage::ConfigRecord record = configRecord(config);
  return stored.size() == record.settings.size() && std::ranges::all_of(record.settings, [&](const storage::KnobSetting& setting) {
    const auto found = stored.find(setting.name);
    if (found == stored.end()) return false;
    const double* number = std::get_if<double>(&setting.value);
    if (!number) return found->second == std::get<std::string>(setting.value);
    if (setting.type == "boolean") return found->second == (*number != 0 ? "true" : "false");
    return QString::fromStdString(found->second).toDouble() == *number;
  });
}

// The newest attribution of this question that did not end.
std::optional<storage::Id> unfinished(storage::SessionFile& file, const AttributeRequest& request, const std::string& protocol, const storage::RunSummary** summary,
                                      std::vector<storage::RunSummary>& all) {
  const auto runs = file.runs();
  if (!runs) return std::nullopt;
  all = *runs;
  for (const storage::RunSummary& run : all) {
    if (run.kind != storage::RunKind::attribute || (run.status != storage::RunStatus::cancelled && run.status != storage::RunStatus::interrupted)) continue;
    const auto record = file.attribution(run.id);
    if (!record || !*record || (*record)->context != request.context || (*record)->question != request.question || run.protocol != protocol) continue;
    *summary = &run;
    return run.id;
  }
  return std::nullopt;
}

// Takes over what an earlier run has computed, where it ran the same model under the same configuration. Proxy outcomes need the same proxy.
Status resume(const JobContext& context, const Session& session, qint64 wanted, const std::string& proxy, AttributeRequest& request) {
  if (!context.file) return Error{ErrorCode::usage, "There is no session to go on from.", "Open the session of the run that was stopped."};
  storage::SessionFile& file = *context.file;
  if (const auto flushed = file.flush(); !flushed) return Error{ErrorCode::failed, flushed.error().message, flushed.error().hint};
  std::vector<storage::RunSummary> all;
  const storage::RunSummary* earlier = nullptr;
  std::optional<storage::Id> id = wanted;
  storage::Result<storage::RunSummary> one = storage::RunSummary{};
  if (wanted < 0) {
    id = unfinished(file, request, protocolOf(request, proxy), &earlier, all);
    if (!id && wanted == kResumeIfAny) return Done{};
    if (!id) return Error{ErrorCode::usage, "This session holds no unfinished attribution of this question.", "Start it without going on from another."};
  } else {
    one = file.run(wanted);
    if (!one) return Error{ErrorCode::usage, one.error().message, one.error().hint};
    earlier = &*one;
  }
  const bool same = earlier->modelPath == modelRecord(context.engine->model()).path && sameConfig(earlier->effective, session.effective()->config);
  if (!same && wanted == kResumeIfAny) return Done{};
  if (!same)
    return Error{ErrorCode::usage, "Run " + std::to_string(*id) + " was done with another model or configuration: its scores can't be gone on with.", "Choose that model and configuration, or start anew."};
  auto known = knownOutcomes(file, *id);
  if (!known) return known.error();
  const auto record = file.attribution(*id);
  if ((*record)->proxy != proxy) {
    auto targets = std::make_shared<KnownOutcomes>(**known);
    std::erase_if(targets->outcomes, [](const auto& outcome) { return outcome->from == Outcome::From::proxy; });
    *known = std::move(targets);
  }
  request.known = *known;
  if (request.response && *request.response != (*record)->response) return Done{};  // the engine says that it differs
  request.response = (*record)->response;
  request.responseIds = (*record)->responseTokens;
  return Done{};
}

struct Side {
  AttributeResult result;
  storage::Id run = -1;
};

void recordMetrics(RunRecorder& recorder, const AttributeResult& r) {
  recorder.metric("forwards", "", "lower", static_cast<double>(r.forwards));
  recorder.metric("forward_tokens", "", "lower", static_cast<double>(r.forwardTokens));
  recorder.metric("parameter_tokens", "", "lower", r.parameterTokens);
  recorder.metric("attribution_ms", "ms", "lower", r.ms);
}

Result<Side> runSide(const JobContext& context, const Config& config, const AttributeSpec& spec, const AttributeResult* response, std::optional<storage::Id> comparedWith,
                     const std::function<void(const AttributeResult&)>& onPartial) {
  const auto tokenizer = context.engine->tokenizer();
  if (!tokenizer) return noTokenizer();
  auto session = context.engine->createSession(config, {}, context.progress);
  if (!session) return session.error();
  auto question = attributeQuestion(spec, *tokenizer, (*session)->context());
  if (!question) return question.error();
  AttributeRequest& request = question->request;
  if (response) {
    request.response = response->response;
    request.responseIds = response->responseTokens;
  }
  OpenedProxy small;
  std::optional<ProxyModel> proxy;
  if (!spec.proxyPath.isEmpty()) {
    EngineOptions options;
    options.threads = context.engine->threads();
    auto opened = openProxy(spec.proxyPath, (*session)->context(), options, context.progress);
    if (!opened) return opened.error();
    small = std::move(*opened);
    proxy.emplace(small.model());
  }
  const std::string proxyName = proxy ? small.engine->model().path() : std::string();
  if (spec.resume) {
    const Status resumed = resume(context, **session, *spec.resume, proxyName, request);
    if (!resumed) return resumed.error();
  }
  storage::NewRun run = describe(context, storage::RunKind::attribute);
  run.prompt = attributionPrompt(request.context, request.question);
  run.protocol = protocolOf(request, proxyName);
  run.specJson = experimentJson(spec).toStdString();
  RunRecorder recorder(context.file, *context.engine, *(*session)->effective(), run);
  if (context.onRun && recorder.active()) context.onRun(recorder.id());
  Keeper keeper(recorder, *question, proxyName, comparedWith);
  auto result = attribute(**session, *tokenizer, request, context.progress, [&](const AttributeResult& partial) {
    keeper.take(partial, false);
    if (onPartial) onPartial(partial);
  }, proxy ? &*proxy : nullptr);
  if (!result) return closed<Side>(context, recorder, result.error());
  if (question->dropped > 0)
    result->notes.push_back(std::to_string(question->dropped) + " of " + std::to_string(question->passages) + " passages were left out: the model's context holds no more.");
  keeper.take(*result, true);
  recorder.memory(0, (*session)->memory());
  recordMetrics(recorder, *result);
  recorder.finish(result->complete ? storage::RunStatus::done : storage::RunStatus::cancelled);
  return Side{std::move(*result), recorder.id()};
}

}  // namespace

Result<AttributeQuestion> attributeQuestion(const AttributeSpec& spec, const Tokenizer& tokenizer, int room) {
  AttributeQuestion out;
  AttributeRequest& request = out.request;
  request.question = spec.question.toStdString();
  if (!spec.response.isEmpty()) request.response = spec.response.toStdString();
  request.responseTokens = spec.responseTokens;
  request.span = spec.span;
  request.method = spec.method.toStdString();
  request.unit = spec.unit;
  request.windowTokens = spec.windowTokens;
  request.samples = spec.samples;
  request.seed = spec.seed;
  request.attribot = spec.attribot;
  request.seconds = spec.seconds;
  const Status taken = !spec.dataPath.isEmpty() ? takeQuestion(out, spec, tokenizer, room) : takeContext(out, spec, tokenizer, room);
  if (!taken) return taken.error();
  return out;
}

Result<OpenedProxy> openProxy(const QString& nameOrPath, int context, const EngineOptions& options, const Progress& progress) {
  const auto source = resolveModel(nameOrPath.toStdString());
  if (!source) return source.error();
  auto model = Model::open(*source);
  if (!model) return model.error();
  auto engine = Engine::create(std::move(*model), options);
  if (!engine) return engine.error();
  OpenedProxy out;
  out.engine = *engine;
  if (!out.engine->tokenizer()) return noTokenizer();
  auto session = out.engine->createSession(Config(), {.context = context}, progress);
  if (!session) session = out.engine->createSession(Config(), {}, progress);  // learned positions go no further than they do
  if (!session) return session.error();
  out.session = std::move(*session);
  return out;
}

Result<AttributeResult> attributeRun(const JobContext& context, const Config& config, const AttributeSpec& spec,
                                     const std::function<void(const AttributeResult&)>& onPartial) {
  auto side = runSide(context, config, spec, nullptr, std::nullopt, onPartial);
  if (!side) return side.error();
  return std::move(side->result);
}

Result<AttributionDifference> attributeDifferenceRun(const JobContext& context, const AttributionDifferenceSpec& spec,
                                                     const std::function<void(const AttributeResult& side, bool second)>& onPartial) {
  JobContext half = context;
  const auto share = [&](double begin) {
    half.progress.report = [&context, begin](double fraction, std::string_view what) { context.progress(begin + fraction / 2, what); };
  };
  const auto tell = [&](bool second) { return [&onPartial, second](const AttributeResult& r) { if (onPartial) onPartial(r, second); }; };
  share(0);
  auto a = runSide(half, spec.a, spec.spec, nullptr, std::nullopt, tell(false));
  if (!a) return a.error();
  const Error stopped{ErrorCode::cancelled, "The comparison was cancelled.", ""};
  if (!a->result.complete) return stopped;
  AttributeSpec second = spec.spec;
  second.resume.reset();
  if (!spec.methodB.isEmpty() && spec.methodB != second.method) {
    second.method = spec.methodB;
    const AttributionMethod* method = findAttributionMethod(second.method.toStdString());
    if (method && !method->usesProxy) second.proxyPath.clear();
  }
  share(0.5);
  auto b = runSide(half, spec.b, second, &a->result, a->run >= 0 ? std::optional(a->run) : std::nullopt, tell(true));
  if (!b) return b.error();
  if (!b->result.complete) return stopped;
  return attributionDifference(std::move(a->result), std::move(b->result));
}

}  // namespace winnow
