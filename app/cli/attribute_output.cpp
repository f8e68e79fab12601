// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/cli/attribute_output.h"

#include <QJsonArray>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "experiments/attribution_record.h"

namespace winnow::cli {
namespace {

QJsonValue number(const std::optional<double>& value) { return value ? QJsonValue(*value) : QJsonValue(QJsonValue::Null); }

QJsonArray floats(const std::vector<float>& values) {
  QJsonArray out;
  for (const float value : values) out.append(value);
  return out;
}

QJsonArray sentences(const std::vector<std::string>& notes) {
  QJsonArray out;
  for (const std::string& note : notes) out.append(text(note));
  return out;
}

QJsonObject sourceJson(const Source& s) {
  QJsonObject out{{"id", s.id}, {"text", text(s.text)}, {"start", static_cast<qint64>(s.start)}, {"end", static_cast<qint64>(s.end)},
                  {"score", number(s.score)}, {"per_token", floats(s.perToken)}};
  if (s.standardError) out["standard_error"] = *s.standardError;
  if (s.ablatedLogProb) out["ablated_log_prob"] = *s.ablatedLogProb;
  if (!s.label.empty()) out["label"] = text(s.label);
  return out;
}

std::string tokenText(const AttributeResult& r, const SupportedToken& token) {
  return r.response.substr(static_cast<size_t>(token.start), static_cast<size_t>(token.end - token.start));
}

QJsonArray supportJson(const AttributeResult& r, int source) {
  QJsonArray out;
  for (const SupportedToken& token : supportedBy(r, static_cast<size_t>(source)))
    out.append(QJsonObject{{"token", token.token}, {"start", static_cast<qint64>(token.start)}, {"end", static_cast<qint64>(token.end)}, {"text", text(tokenText(r, token))},
                           {"score", token.nats}, {"noise", token.noise}});
  return out;
}

QJsonObject resultJson(const AttributeResult& r) {
  QJsonArray sources, ends;
  for (const Source& s : r.sources) sources.append(sourceJson(s));
  for (const int64_t end : r.responseEnds) ends.append(static_cast<qint64>(end));
  QJsonObject out{{"response", text(r.response)}, {"response_ends", ends}, {"span", QJsonArray{r.spanFirst, r.spanLast}}, {"sources", sources},
                  {"levels", levelsJson(r.levels)}, {"forwards", static_cast<qint64>(r.forwards)}, {"forward_tokens", static_cast<qint64>(r.forwardTokens)},
                  {"proxy_forwards", static_cast<qint64>(r.proxyForwards)}, {"proxy_forward_tokens", static_cast<qint64>(r.proxyForwardTokens)},
                  {"known_forwards", static_cast<qint64>(r.knownForwards)}, {"parameter_tokens", r.parameterTokens}, {"ms", r.ms}, {"method", text(r.method)},
                  {"unit", text(std::string(sourceUnitName(r.unit)))}, {"base_log_prob", r.baseLogProb}, {"noise_floor", r.noiseFloor}, {"noise_ms", r.noiseMs},
                  {"notes", sentences(r.notes)}, {"complete", r.complete}};
  if (!r.tricks.empty()) out["tricks"] = text(r.tricks);
  if (r.confidence) out["confidence"] = *r.confidence;
  if (!r.forecasts.empty()) out["forecasts"] = forecastsJson(r);
  return out;
}

std::string oneLine(std::string line) {
  std::ranges::replace(line, '\n', ' ');
  return line;
}

void printSupport(const AttributeResult& r, int source) {
  std::printf("\nWhat source %d supported: %s\n", source + 1, oneLine(r.sources[static_cast<size_t>(source)].text).c_str());
  std::vector<std::vector<std::string>> rows{{"score", "token", ""}};
  for (const SupportedToken& token : supportedBy(r, static_cast<size_t>(source)))
    rows.push_back({fixed(token.nats, 3), oneLine(tokenText(r, token)), token.noise ? "noise" : ""});
  if (rows.size() > 1)
    printTable(rows, true);
  else
    std::printf("It has no scores token by token.\n");
}

void printForecasts(const AttributeResult& r) {
  if (r.forecasts.empty()) return;
  std::vector<std::vector<std::string>> rows{{"seconds", "agreement (mAP)", "way", ""}};
  for (size_t i = 0; i < r.forecasts.size(); ++i) {
    const AttributionForecast& f = r.forecasts[i];
    std::string way = f.method + (f.tricks.empty() ? "" : " " + f.tricks);
    if (f.keepParagraphs > 0) way += ", " + std::to_string(f.keepParagraphs) + " paragraphs";
    if (f.keepSources > 0) way += ", " + std::to_string(f.keepSources) + " sources";
    if (f.samples > 0) way += ", " + std::to_string(f.samples) + " samples";
    rows.push_back({fixed(f.seconds, 2), fixed(f.agreement, 3) + (f.agreementError > 0 ? " ± " + fixed(f.agreementError, 3) : ""), way, static_cast<int>(i) == r.forecast ? "chosen" : ""});
  }
  printTable(rows, true);
  std::printf("\n");
}

}  // namespace

int printJson(const Invocation& invocation, const AttributeResult& r, int source) {
  QJsonObject out = resultJson(r);
  if (source >= 0) out["supported"] = supportJson(r, source);
  return r.complete ? invocation.print(out) : invocation.stopped(out);
}

int printRanking(const Invocation& invocation, const AttributeResult& r, int source) {
  for (const std::string& note : r.notes) invocation.warn(note);
  printForecasts(r);
  std::printf("Response: %s\n\n", r.response.c_str());
  std::vector<const Source*> ranked;
  for (const Source& s : r.sources) ranked.push_back(&s);
  std::ranges::stable_sort(ranked, [](const Source* a, const Source* b) { return a->score.value_or(-INFINITY) > b->score.value_or(-INFINITY); });
  const bool nats = findAttributionMethod(r.method)->nats;
  std::vector<std::vector<std::string>> rows{nats ? std::vector<std::string>{"nats", "probability", "source", "text"} : std::vector<std::string>{"score", "source", "text"}};
  for (const Source* s : ranked) {
    std::vector<std::string> row{s->score ? fixed(*s->score, 3) + (s->standardError ? " ± " + fixed(*s->standardError, 3) : "") : "-"};
    if (nats) row.push_back(!s->score ? "-" : std::fabs(*s->score) < r.noiseFloor ? "noise" : "×" + fixed(std::exp(*s->score), 2));
    row.push_back(std::to_string(s->id + 1));
    row.push_back((s->label.empty() ? "" : s->label + ": ") + oneLine(s->text));
    rows.push_back(std::move(row));
  }
  printTable(rows, true);
  if (source >= 0) printSupport(r, source);
  std::printf("\n%s%s%s: %lld forwards, %lld tokens, %.0f ms%s\n", r.method.c_str(), r.tricks.empty() ? "" : " ", r.tricks.c_str(), static_cast<long long>(r.forwards),
              static_cast<long long>(r.forwardTokens), r.ms, r.complete ? "" : " (stopped, partial)");
  if (r.knownForwards > 0) std::printf("%lld forwards were taken from the run before.\n", static_cast<long long>(r.knownForwards));
  if (r.confidence) std::printf("Rank correlation with masks held out: %.2f\n", *r.confidence);
  return r.complete ? 0 : invocation.stopped({});
}

int printDifferenceJson(const Invocation& invocation, const AttributionDifference& d) {
  QJsonArray rows;
  for (const AttributionDifference::Row& row : d.rows)
    rows.append(QJsonObject{{"source", row.source}, {"a", number(row.a)}, {"b", number(row.b)}, {"difference", number(row.difference)}, {"noise", row.noise}, {"per_token", floats(row.perToken)}});
  return invocation.print({{"a", resultJson(d.a)}, {"b", resultJson(d.b)}, {"shares", d.shares}, {"rows", rows}, {"rank_correlation", d.rankCorrelation}, {"notes", sentences(d.notes)}});
}

int printDifference(const Invocation& invocation, const AttributionDifference& d) {
  for (const std::string& note : d.notes) invocation.warn(note);
  std::printf("Response: %s\n\n", d.a.response.c_str());
  std::vector<size_t> order(d.rows.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto size = [&](size_t i) { return std::fabs(d.rows[i].difference.value_or(0)); };
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return size(a) > size(b); });
  const auto cell = [](const std::optional<double>& value) { return value ? fixed(*value, 3) : std::string("-"); };
  std::vector<std::vector<std::string>> rows{{"difference", "first", "second", "source", "text"}};
  for (const size_t i : order) {
    const AttributionDifference::Row& row = d.rows[i];
    const bool noise = row.difference && std::fabs(*row.difference) < row.noise;
    rows.push_back({cell(row.difference) + (noise ? " noise" : ""), cell(row.a), cell(row.b), std::to_string(row.source + 1), oneLine(d.a.sources[i].text)});
  }
  printTable(rows, true);
  std::printf("\n%s and %s, in %s; rank correlation %.2f\n", d.a.method.c_str(), d.b.method.c_str(), d.shares ? "shares of each side's sum" : "nats", d.rankCorrelation);
  return 0;
}

}  // namespace winnow::cli
