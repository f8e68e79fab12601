// SPDX-License-Identifier: GPL-3.0-or-later
// winnow-cli attribute.
#include <QJsonArray>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/attribute/attribute.h"
#include "engine/text/tokenizer.h"

namespace winnow::cli {
namespace {

QString text(const std::string& s) { return QString::fromStdString(s); }

int printAttribution(const Invocation& invocation, const AttributeResult& r) {
  if (invocation.json()) {
    QJsonArray sources;
    for (const Source& s : r.sources) {
      QJsonArray perToken;
      for (float score : s.perToken) perToken.append(score);
      sources.append(QJsonObject{{"id", s.id}, {"text", text(s.text)}, {"start", static_cast<qint64>(s.start)}, {"end", static_cast<qint64>(s.end)},
                                 {"score", s.score ? QJsonValue(*s.score) : QJsonValue(QJsonValue::Null)}, {"per_token", perToken}});
    }
    QJsonArray notes;
    for (const std::string& note : r.notes) notes.append(text(note));
    return invocation.print({{"response", text(r.response)}, {"sources", sources}, {"forwards", static_cast<qint64>(r.forwards)}, {"forward_tokens", static_cast<qint64>(r.forwardTokens)},
                             {"ms", r.ms}, {"method", text(r.method)}, {"base_log_prob", r.baseLogProb}, {"noise_floor", r.noiseFloor}, {"noise_ms", r.noiseMs}, {"notes", notes}, {"complete", r.complete}});
  }
  for (const std::string& note : r.notes) invocation.warn(note);
  std::printf("Response: %s\n\n", r.response.c_str());
  std::vector<const Source*> ranked;
  for (const Source& s : r.sources) ranked.push_back(&s);
  std::ranges::stable_sort(ranked, [](const Source* a, const Source* b) { return a->score.value_or(-INFINITY) > b->score.value_or(-INFINITY); });
  std::vector<std::vector<std::string>> rows{{"nats", "probability", "source"}};
  for (const Source* s : ranked)
    rows.push_back({s->score ? fixed(*s->score, 3) : "-", s->score ? (std::fabs(*s->score) < r.noiseFloor ? "noise" : "×" + fixed(std::exp(*s->score), 2)) : "-", s->text});
  printTable(rows, true);
  std::printf("\n%s: %lld forwards, %lld tokens, %.0f ms%s\n", r.method.c_str(), static_cast<long long>(r.forwards), static_cast<long long>(r.forwardTokens), r.ms, r.complete ? "" : " (stopped, partial)");
  return 0;
}

}  // namespace

int runAttribute(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  AttributeRequest request;
  request.method = arguments.text("--method", "loo");
  if (!findAttributionMethod(request.method)) return invocation.fail(unknownAttributionMethod(request.method));
  const std::string unit = arguments.text("--unit", "sentence");
  if (unit != "sentence" && unit != "paragraph") return invocation.fail({ErrorCode::usage, "--unit " + unit + ": expected sentence or paragraph.", ""});
  request.unit = unit == "sentence" ? SourceUnit::sentence : SourceUnit::paragraph;
  const auto count = arguments.integer("-n", 48, 1, 4096);
  if (!count) return invocation.fail(count.error());
  request.responseTokens = static_cast<int>(*count);
  for (const char* needed : {"--context", "--question"})
    if (!arguments.has(needed)) return invocation.fail({ErrorCode::usage, std::string("attribute needs ") + needed + ".", "winnow-cli attribute --help"});
  const auto input = readText(arguments.text("--context"));
  if (!input) return invocation.fail(input.error());
  request.context = *input;
  request.question = arguments.text("--question");
  if (arguments.has("--response")) request.response = arguments.text("--response");
  const auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  if (!(*engine)->tokenizer()) return invocation.fail(noTokenizer());
  const auto session = invocation.openSession(**engine);
  if (!session) return invocation.fail(session.error());
  const Progress progress = invocation.progress();
  const auto result = attribute(**session, *(*engine)->tokenizer(), request, progress);
  if (!result) return invocation.fail(result.error());
  const int code = printAttribution(invocation, *result);
  return progress.stopped() ? static_cast<int>(ErrorCode::cancelled) : code;
}

}  // namespace winnow::cli
