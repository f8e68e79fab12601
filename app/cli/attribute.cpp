// SPDX-License-Identifier: GPL-3.0-or-later
// winnow-cli attribute.
#include <QJsonArray>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/attribute/attribute.h"
#include "engine/text/tokenizer.h"
#include "experiments/jobs.h"

namespace winnow::cli {
namespace {

QJsonObject sourceJson(const Source& s) {
  QJsonArray perToken;
  for (const float score : s.perToken) perToken.append(score);
  QJsonObject out{{"id", s.id}, {"text", text(s.text)}, {"start", static_cast<qint64>(s.start)}, {"end", static_cast<qint64>(s.end)},
                  {"score", s.score ? QJsonValue(*s.score) : QJsonValue(QJsonValue::Null)}, {"per_token", perToken}};
  if (s.standardError) out["standard_error"] = *s.standardError;
  return out;
}

int printJson(const Invocation& invocation, const AttributeResult& r) {
  QJsonArray sources, notes;
  for (const Source& s : r.sources) sources.append(sourceJson(s));
  for (const std::string& note : r.notes) notes.append(text(note));
  QJsonObject out{{"response", text(r.response)}, {"sources", sources}, {"forwards", static_cast<qint64>(r.forwards)}, {"forward_tokens", static_cast<qint64>(r.forwardTokens)},
                  {"proxy_forwards", static_cast<qint64>(r.proxyForwards)}, {"proxy_forward_tokens", static_cast<qint64>(r.proxyForwardTokens)},
                  {"parameter_tokens", r.parameterTokens}, {"ms", r.ms}, {"method", text(r.method)}, {"unit", text(std::string(sourceUnitName(r.unit)))},
                  {"base_log_prob", r.baseLogProb}, {"noise_floor", r.noiseFloor}, {"noise_ms", r.noiseMs}, {"notes", notes}, {"complete", r.complete}};
  if (r.confidence) out["confidence"] = *r.confidence;
  return r.complete ? invocation.print(out) : invocation.stopped(out);
}

int printRanking(const Invocation& invocation, const AttributeResult& r) {
  for (const std::string& note : r.notes) invocation.warn(note);
  std::printf("Response: %s\n\n", r.response.c_str());
  std::vector<const Source*> ranked;
  for (const Source& s : r.sources) ranked.push_back(&s);
  std::ranges::stable_sort(ranked, [](const Source* a, const Source* b) { return a->score.value_or(-INFINITY) > b->score.value_or(-INFINITY); });
  const bool nats = findAttributionMethod(r.method)->nats;
  std::vector<std::vector<std::string>> rows{nats ? std::vector<std::string>{"nats", "probability", "source"} : std::vector<std::string>{"score", "source"}};
  for (const Source* s : ranked) {
    std::vector<std::string> row{s->score ? fixed(*s->score, 3) + (s->standardError ? " ± " + fixed(*s->standardError, 3) : "") : "-"};
    if (nats) row.push_back(!s->score ? "-" : std::fabs(*s->score) < r.noiseFloor ? "noise" : "×" + fixed(std::exp(*s->score), 2));
    std::string line = s->text;
    std::ranges::replace(line, '\n', ' ');
    row.push_back(std::move(line));
    rows.push_back(std::move(row));
  }
  printTable(rows, true);
  std::printf("\n%s: %lld forwards, %lld tokens, %.0f ms%s\n", r.method.c_str(), static_cast<long long>(r.forwards), static_cast<long long>(r.forwardTokens), r.ms,
              r.complete ? "" : " (stopped, partial)");
  if (r.confidence) std::printf("Rank correlation with masks held out: %.2f\n", *r.confidence);
  return r.complete ? 0 : invocation.stopped({});
}

Result<AttributeRequest> readRequest(const Arguments& arguments) {
  AttributeRequest request;
  request.method = arguments.text("--method", request.method);
  if (!findAttributionMethod(request.method)) return unknownAttributionMethod(request.method);
  const std::string unit = arguments.text("--unit", "sentence");
  const std::vector<SourceUnit> units = {SourceUnit::sentence, SourceUnit::paragraph, SourceUnit::window};
  const auto known = std::ranges::find(units, unit, sourceUnitName);
  if (known == units.end()) return Error{ErrorCode::usage, "--unit " + unit + ": expected sentence, paragraph or window.", ""};
  request.unit = *known;
  if (arguments.has("--tricks")) {
    auto tricks = parseTricks(arguments.text("--tricks"));
    if (!tricks) return tricks.error();
    request.attribot = *tricks;
  }
  const std::pair<const char*, int*> counts[] = {{"-n", &request.responseTokens}, {"--window", &request.windowTokens}, {"--keep-paragraphs", &request.attribot.keepParagraphs},
                                                 {"--keep-sources", &request.attribot.keepSources}};
  for (const auto& [name, to] : counts) {
    const auto count = arguments.integer(name, *to, 1, 4096);
    if (!count) return count.error();
    *to = static_cast<int>(*count);
  }
  const auto samples = arguments.integer("--samples", 0, 1, 100000), seed = arguments.integer("--seed", 0, 0, INT64_MAX);
  if (!samples) return samples.error();
  if (!seed) return seed.error();
  request.samples = static_cast<int>(*samples);
  request.seed = static_cast<uint64_t>(*seed);
  for (const char* needed : {"--context", "--question"})
    if (!arguments.has(needed)) return Error{ErrorCode::usage, std::string("attribute needs ") + needed + ".", "winnow-cli attribute --help"};
  auto context = readText(arguments.text("--context"));
  if (!context) return context.error();
  request.context = std::move(*context);
  request.question = arguments.text("--question");
  if (arguments.has("--response")) request.response = arguments.text("--response");
  return request;
}

}  // namespace

int runAttribute(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  const auto request = readRequest(arguments);
  if (!request) return invocation.fail(request.error());
  const auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  if (!(*engine)->tokenizer()) return invocation.fail(noTokenizer());
  const auto session = invocation.openSession(**engine);
  if (!session) return invocation.fail(session.error());
  const Progress progress = invocation.progress();
  std::shared_ptr<Engine> proxyEngine;
  std::unique_ptr<Session> proxySession;
  std::optional<ProxyModel> proxy;
  if (arguments.has("--proxy")) {
    auto opened = invocation.openEngine(arguments.text("--proxy"));
    if (!opened) return invocation.fail(opened.error());
    proxyEngine = *opened;
    if (!proxyEngine->tokenizer()) return invocation.fail(noTokenizer());
    auto made = proxyEngine->createSession(Config(), SessionOptions{}, progress);
    if (!made) return invocation.fail(made.error());
    proxySession = std::move(*made);
    proxy.emplace(ProxyModel{*proxySession, *proxyEngine->tokenizer()});
  }
  const auto result = attribute(**session, *(*engine)->tokenizer(), *request, progress, {}, proxy ? &*proxy : nullptr);
  if (!result) return invocation.fail(explained(**engine, result.error()));
  return invocation.json() ? printJson(invocation, *result) : printRanking(invocation, *result);
}

}  // namespace winnow::cli
