// SPDX-License-Identifier: GPL-3.0-or-later
#include <QCryptographicHash>
#include <QFileInfo>
#include <algorithm>

#include "experiments/depth_lines.h"
#include "experiments/job_run.h"
#include "experiments/jobs.h"
#include "experiments/model_source.h"
#include "experiments/recorder.h"

namespace winnow {
namespace {

void describeCorpus(storage::NewRun& run, const QString& path, const std::string& text) {
  run.corpusName = path.isEmpty() ? "given text" : QFileInfo(path).fileName().toStdString();
  run.corpusSha256 = QCryptographicHash::hash(QByteArrayView(text.data(), static_cast<qsizetype>(text.size())), QCryptographicHash::Sha256).toHex().toStdString();
  run.corpusBytes = static_cast<int64_t>(text.size());
}

storage::Metric interval(const char* name, const char* unit, double value, double stderror, int64_t n) {
  storage::Metric m;
  m.name = name;
  m.unit = unit;
  m.better = "lower";
  m.n = n;
  m.value = value;
  m.ciLow = value - 1.96 * stderror;
  m.ciHigh = value + 1.96 * stderror;
  return m;
}

Result<std::unique_ptr<Session>> baselineSession(const JobContext& context, const EvaluateSpec& spec, const SessionOptions& options, std::shared_ptr<Engine>& keep) {
  keep = context.engine;
  if (!spec.againstModel.isEmpty()) {
    const auto source = resolveModel(spec.againstModel.toStdString());
    if (!source) return source.error();
    auto model = Model::open(*source);
    if (!model) return model.error();
    EngineOptions engineOptions;
    engineOptions.threads = context.engine->threads();
    auto engine = Engine::create(std::move(*model), engineOptions);
    if (!engine) return engine.error();
    keep = std::move(*engine);
    if (!keep->tokenizer() || keep->tokenizer()->vocab().tokens != context.engine->tokenizer()->vocab().tokens)
      return Error{ErrorCode::badInput, spec.againstModel.toStdString() + " has another vocabulary: its predictions can't be compared token by token.", "Use a model with the same tokenizer."};
  }
  return keep->createSession(Config(), options, context.progress);
}

void recordEvaluation(RunRecorder& recorder, const PerplexityResult& r) {
  recorder.metric(interval("perplexity", "", r.perplexity, r.stderror, r.count));
  recorder.metric("bits_per_byte", "bit", "lower", r.bitsPerByte, r.count);
  for (const bool baseline : {false, true})
    for (storage::Metric& metric : depthMetrics(depthLine({}, r, baseline), baseline)) recorder.metric(std::move(metric));
  if (!r.kld) return;
  recorder.metric(interval("kld_mean", "nat", r.kld->mean, r.kld->meanStderr, r.count));
  recorder.metric("kld_p99", "nat", "lower", r.kld->p99, r.count);
  recorder.metric("top1", "", "higher", r.kld->top1, r.count);
}

storage::WindowSample stored(const PerplexityWindow& w) { return {w.index, w.firstToken, w.count, w.nllSum, w.nllSquaredSum, w.kldSum, w.sameTop}; }

}  // namespace

Error explained(const Engine& engine, const Error& error) {
  if (error.code != ErrorCode::failed) return error;
  const Status values = engine.model().validateValues();
  return values ? error : values.error();
}

Error noTokenizer() { return {ErrorCode::badInput, "the model file holds no tokenizer: text can't be read.", "Use a file with its vocabulary."}; }

Result<PerplexityResult> evaluateRun(const JobContext& context, const Config& config, const EvaluateSpec& spec,
                                     const std::function<void(const PerplexityResult&)>& onPartial) {
  const auto tokenizer = context.engine->tokenizer();
  if (!tokenizer) return noTokenizer();
  Result<std::string> text = spec.textPath.isEmpty() ? Result<std::string>(spec.textInline.toStdString()) : readTextFile(spec.textPath);
  if (!text) return text.error();
  PerplexityRequest request;
  request.mode = spec.mode;
  request.context = spec.context;
  request.chunks = spec.chunks;
  request.stepwise = spec.stepwise;
  request.depths = spec.depths;
  request.scored = spec.scored;
  SessionOptions options;
  options.context = windowTokens(request);
  auto session = context.engine->createSession(config, options, context.progress);
  if (!session) return session.error();
  storage::NewRun run = describe(context, storage::RunKind::evaluate);
  describeCorpus(run, spec.textPath, *text);
  run.protocol = perplexityProtocol(request, scoresStepwise(request, (*session)->effective()->config));
  RunRecorder recorder(context.file, *context.engine, *(*session)->effective(), run);
  if (context.onRun && recorder.active()) context.onRun(recorder.id());

  std::shared_ptr<Engine> keep;
  std::unique_ptr<Session> baseline;
  if (spec.againstBaseline || !spec.againstModel.isEmpty()) {
    auto made = baselineSession(context, spec, options, keep);
    if (!made) return closed<PerplexityResult>(context, recorder, made.error());
    baseline = std::move(*made);
  }
  PerplexityResult partial;
  partial.protocol = run.protocol;
  WindowSums sums;
  const auto result = measurePerplexity(**session, baseline.get(), *tokenizer, *text, request, context.progress, [&](const PerplexityWindow& window) {
    if (auto* file = recorder.file()) file->addWindows(recorder.id(), {stored(window)});
    recorder.memory(window.index, (*session)->memory());
    partial.windows.push_back(window);
    sums.add(window);
    partial.nllSum = sums.nll;
    partial.count = sums.count;
    partial.chunks = static_cast<int>(partial.windows.size());
    partial.perplexity = sums.perplexity();
    partial.stderror = sums.stderror();
    if (onPartial) onPartial(partial);
  });
  if (!result) return closed<PerplexityResult>(context, recorder, result.error());
  recordEvaluation(recorder, *result);
  recorder.finish(storage::RunStatus::done);
  return result;
}

Result<BenchResult> benchRun(const JobContext& context, const Config& config, const BenchSpec& spec) {
  BenchRequest request;
  request.prompt = spec.prompt;
  request.generate = spec.generate;
  request.depth = spec.depth;
  request.repetitions = spec.repetitions;
  storage::NewRun run = describe(context, storage::RunKind::bench);
  if (!spec.textPath.isEmpty()) {
    auto text = readTextFile(spec.textPath);
    if (!text) return text.error();
    describeCorpus(run, spec.textPath, *text);
    request.realText = true;
    request.text = std::move(*text);
  }
  SessionOptions options;
  for (const auto* lengths : {&spec.prompt, &spec.generate})
    for (int length : *lengths)
      for (int depth : spec.depth) options.context = std::max(options.context, depth + length);
  auto session = context.engine->createSession(config, options, context.progress);
  if (!session) return session.error();
  run.protocol = request.realText ? "llama-bench real text" : "llama-bench random";
  RunRecorder recorder(context.file, *context.engine, *(*session)->effective(), run);
  if (context.onRun && recorder.active()) context.onRun(recorder.id());
  const auto result = runBench(*context.engine, **session, request, context.progress);
  if (!result) return closed<BenchResult>(context, recorder, result.error());
  recorder.memory(0, (*session)->memory());
  bool latency = false;
  for (const BenchTest& test : result->tests) {
    std::vector<storage::BenchSample> samples;
    for (size_t i = 0; i < test.repetitions.size(); ++i)
      samples.push_back({test.name, static_cast<int>(i), test.tokens, test.depth, test.repetitions[i].seconds, test.repetitions[i].tokensPerSecond});
    if (auto* file = recorder.file()) file->addBench(recorder.id(), std::move(samples));
    storage::Metric rate;
    rate.name = test.prefill ? "prefill_tokens_per_second" : "tokens_per_second";
    rate.unit = "1/s";
    rate.better = "higher";
    rate.n = static_cast<int64_t>(test.repetitions.size());
    rate.value = test.tokensPerSecond;
    rate.sd = test.stddev;
    if (!test.prefill && !latency) {
      latency = true;
      recorder.metric(rate);
      storage::Metric ms{"ms_per_token", "ms", "lower", rate.n * test.tokens, test.medianMs, {}, test.medianMs, test.p95Ms, {}, {}};
      recorder.metric(ms);
      recorder.metric("roofline_share", "", "higher", test.share);
    } else if (test.prefill) {
      recorder.metric(rate);
    }
  }
  recorder.finish(storage::RunStatus::done);
  return result;
}

}  // namespace winnow
