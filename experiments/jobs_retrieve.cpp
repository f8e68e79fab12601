// SPDX-License-Identifier: GPL-3.0-or-later
// Retrieval as an experiment: questions made or read, asked of a cache, recorded as they are answered.
#include <QFileInfo>

#include "engine/evaluate/held_out.h"
#include "experiments/context_file.h"
#include "experiments/job_run.h"
#include "experiments/model_source.h"
#include "experiments/retrieval_map.h"
#include "experiments/statistics.h"

namespace winnow {
namespace {

Result<std::vector<RetrievalItem>> readItems(const RetrieveSpec& spec) {
  const auto questions = readQuestions(spec.dataPath, spec.limit);
  if (!questions) return questions.error();
  std::vector<RetrievalItem> items;
  for (const Question& question : *questions) {
    if (!question.response)
      return Error{ErrorCode::badInput, spec.dataPath.toStdString() + ", question " + std::to_string(items.size() + 1) + " has no response to look for.", "Give each line a \"response\"."};
    items.push_back({question.passages.empty() ? question.context : joinPassages(question.passages).text, question.question, *question.response, 0, std::nullopt});
  }
  return items;
}

Result<std::string> haystack(const RetrieveSpec& spec) {
  if (!spec.textPath.isEmpty()) return readTextFile(spec.textPath);
  if (!spec.textInline.isEmpty()) return spec.textInline.toStdString();
  return readTextFile(QString::fromStdString(findResource("texts/sample.txt")));
}

Result<std::vector<RetrievalItem>> itemsOf(const RetrieveSpec& spec, const Tokenizer& tokenizer) {
  if (!spec.dataPath.isEmpty()) return readItems(spec);
  RetrievalTasks tasks = spec.tasks;
  if (tasks.task != RetrievalTask::pairs) {
    auto text = haystack(spec);
    if (!text) return text.error();
    tasks.haystack = std::move(*text);
  }
  return retrievalItems(tasks, tokenizer);
}

std::string described(const RetrieveSpec& spec) {
  if (!spec.dataPath.isEmpty()) return QFileInfo(spec.dataPath).fileName().toStdString();
  QStringList lengths, depths;
  for (const int length : spec.tasks.lengths) lengths << QString::number(length);
  for (const double depth : spec.tasks.depths) depths << QString::number(depth);
  return QStringLiteral("%1 lengths=%2 depths=%3 trials=%4 seed=%5")
      .arg(QString::fromUtf8(retrievalTaskName(spec.tasks.task)), lengths.join(u','), depths.join(u','))
      .arg(spec.tasks.trials)
      .arg(spec.tasks.seed)
      .toStdString();
}

void recordRetrieval(RunRecorder& recorder, const RetrievalResult& r, bool compared) {
  const auto n = static_cast<int64_t>(r.items.size());
  const auto share = [&](const char* name, int64_t hits) {
    const Interval interval = shareInterval(hits, n);
    recorder.metric({name, "", "higher", n, static_cast<double>(hits) / static_cast<double>(n), {}, {}, {}, interval.low, interval.high});
  };
  share("answers_found", r.found);
  if (compared) share("answers_found_baseline", r.baseFound);
  const auto tokens = static_cast<double>(r.sums.count);
  recorder.metric("answer_nll", "nat", "lower", r.sums.nll / tokens, r.sums.count);
  if (compared) recorder.metric("answer_kld", "nat", "lower", r.sums.kld / tokens, r.sums.count);
}

}  // namespace

Result<RetrievalResult> retrieveRun(const JobContext& context, const Config& config, const RetrieveSpec& spec, const std::function<void(const RetrievalResult&)>& onPartial) {
  const auto tokenizer = context.engine->tokenizer();
  if (!tokenizer) return noTokenizer();
  const auto items = itemsOf(spec, *tokenizer);
  if (!items) return items.error();
  if (items->empty()) return Error{ErrorCode::badInput, "there is no question to ask.", "Give lengths and depths, or a file with questions."};
  SessionOptions options;
  options.context = retrievalTokens(*tokenizer, *items);
  auto session = context.engine->createSession(config, options, context.progress);
  if (!session) return session.error();
  if (context.onEffective)
    if (Status told = context.onEffective(*(*session)->effective()); !told) return told.error();
  for (const RetrievalItem& item : *items)
    if (Status held = heldOut(**session, item.context); !held) return held.error();
  std::unique_ptr<Session> baseline;
  if (spec.againstBaseline) {
    auto made = context.engine->createSession(Config(), options, context.progress);
    if (!made) return made.error();
    baseline = std::move(*made);
  }
  storage::NewRun run = describe(context, storage::RunKind::evaluate);
  run.protocol = retrievalProtocol(described(spec), spec.queryAware);
  run.seed = static_cast<int64_t>(spec.tasks.seed);
  run.specJson = experimentJson(spec).toStdString();
  RunRecorder recorder(context.file, *context.engine, *(*session)->effective(), run);
  if (context.onRun && recorder.active()) context.onRun(recorder.id());
  RetrievalResult partial;
  partial.protocol = run.protocol;
  auto result = measureRetrieval(**session, baseline.get(), *tokenizer, *items, spec.queryAware, context.progress, [&](const RetrievalScore& score) {
    if (auto* file = recorder.file()) file->addRetrieval(recorder.id(), {retrievalSample(score)});
    recorder.memory(score.item, (*session)->memory());
    partial.add(score);
    if (onPartial) onPartial(partial);
  });
  if (!result) return closed<RetrievalResult>(context, recorder, result.error());
  result->protocol = run.protocol;
  recordRetrieval(recorder, *result, spec.againstBaseline);
  recorder.finish(storage::RunStatus::done);
  return result;
}

}  // namespace winnow
