// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/attribution_record.h"

#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>

namespace winnow {
namespace {

constexpr std::pair<Outcome::From, const char*> kOrigins[] = {
    {Outcome::From::target, "target"}, {Outcome::From::proxy, "proxy"}, {Outcome::From::noise, "noise"}};

QString text(const std::string& utf8) { return QString::fromStdString(utf8); }
QJsonValue number(const std::optional<double>& value) { return value ? QJsonValue(*value) : QJsonValue(QJsonValue::Null); }
std::optional<double> numberOf(const QJsonValue& value) { return value.isDouble() ? std::optional(value.toDouble()) : std::nullopt; }
std::string compact(const QJsonArray& array) { return QJsonDocument(array).toJson(QJsonDocument::Compact).toStdString(); }
QJsonArray arrayOf(const std::string& json) { return QJsonDocument::fromJson(QByteArray::fromStdString(json)).array(); }

std::vector<AttributionLevel> levelsOf(const std::string& json) {
  std::vector<AttributionLevel> levels;
  const QJsonArray all = arrayOf(json);
  for (const QJsonValue& each : all) {
    AttributionLevel level;
    level.unit = findSourceUnit(each[QLatin1String("unit")].toString().toStdString()).value_or(SourceUnit::paragraph);
    level.proxy = each[QLatin1String("proxy")].toBool();
    const QJsonArray sources = each[QLatin1String("sources")].toArray();
    for (const QJsonValue& one : sources) {
      Source source;
      source.id = one[QLatin1String("id")].toInt();
      source.start = static_cast<int64_t>(one[QLatin1String("start")].toDouble());
      source.end = static_cast<int64_t>(one[QLatin1String("end")].toDouble());
      source.score = numberOf(one[QLatin1String("score")]);
      source.ablatedLogProb = numberOf(one[QLatin1String("ablated_log_prob")]);
      level.sources.push_back(std::move(source));
    }
    levels.push_back(std::move(level));
  }
  return levels;
}

}  // namespace

QJsonArray levelsJson(const std::vector<AttributionLevel>& levels) {
  QJsonArray out;
  for (const AttributionLevel& level : levels) {
    QJsonArray sources;
    for (const Source& s : level.sources)
      sources.append(QJsonObject{{"id", s.id}, {"start", static_cast<qint64>(s.start)}, {"end", static_cast<qint64>(s.end)}, {"score", number(s.score)},
                                 {"ablated_log_prob", number(s.ablatedLogProb)}});
    out.append(QJsonObject{{"unit", text(std::string(sourceUnitName(level.unit)))}, {"proxy", level.proxy}, {"sources", sources}});
  }
  return out;
}

QJsonArray forecastsJson(const AttributeResult& result) {
  QJsonArray out;
  for (size_t i = 0; i < result.forecasts.size(); ++i) {
    const AttributionForecast& f = result.forecasts[i];
    out.append(QJsonObject{{"method", text(f.method)}, {"tricks", text(f.tricks)}, {"keep_paragraphs", f.keepParagraphs}, {"keep_sources", f.keepSources},
                           {"samples", f.samples}, {"target_tokens", static_cast<qint64>(f.targetTokens)}, {"proxy_tokens", static_cast<qint64>(f.proxyTokens)},
                           {"seconds", f.seconds}, {"agreement", f.agreement}, {"spearman", f.spearman}, {"agreement_error", f.agreementError},
                           {"basis", text(f.basis)}, {"chosen", static_cast<int>(i) == result.forecast}});
  }
  return out;
}

storage::AttributionRecord attributionRecord(const AttributeRequest& request, const AttributeResult& r) {
  storage::AttributionRecord record{r.method, std::string(sourceUnitName(r.unit)), request.context, request.question, r.response,
                                    r.baseLogProb, r.noiseFloor, r.forwards, r.forwardTokens, static_cast<int64_t>(r.ms * 1e6), r.complete, {}};
  for (const Source& s : r.sources) record.sources.push_back({s.id, s.start, s.end, s.text, s.score, s.perToken, s.standardError, s.ablatedLogProb, s.label});
  record.tricks = r.tricks;
  record.responseTokens = r.responseTokens;
  record.responseEnds = r.responseEnds;
  record.spanFirst = r.spanFirst;
  record.spanLast = r.spanLast;
  record.proxyForwards = r.proxyForwards;
  record.proxyTokens = r.proxyForwardTokens;
  record.knownForwards = r.knownForwards;
  record.parameterTokens = r.parameterTokens;
  record.samples = r.samples;
  record.seed = static_cast<int64_t>(r.seed);
  record.confidence = r.confidence;
  record.notes = r.notes;
  record.levelsJson = compact(levelsJson(r.levels));
  record.forecastsJson = compact(forecastsJson(r));
  return record;
}

storage::AttributionOutcome outcomeRecord(const Outcome& outcome) {
  for (const auto& [from, name] : kOrigins)
    if (from == outcome.from) return {name, outcome.keep, outcome.logProbs, outcome.tokensFed};
  return {};
}

namespace {

std::shared_ptr<const Outcome> outcomeOf(const storage::AttributionOutcome& record) {
  auto outcome = std::make_shared<Outcome>(Outcome{Outcome::From::target, record.keep, record.logProbs, record.tokensFed});
  for (const auto& [from, name] : kOrigins)
    if (record.origin == name) outcome->from = from;
  return outcome;
}

}  // namespace

AttributeResult attributionResult(const storage::AttributionRecord& record, const std::vector<storage::AttributionOutcome>& outcomes) {
  AttributeResult r;
  r.method = record.method;
  r.response = record.response;
  r.tricks = record.tricks;
  r.unit = findSourceUnit(record.unit).value_or(SourceUnit::sentence);
  r.responseTokens = record.responseTokens;
  r.responseEnds = record.responseEnds;
  r.spanFirst = record.spanFirst;
  r.spanLast = record.spanLast;
  r.baseLogProb = record.baseLogProb;
  r.noiseFloor = record.noiseFloor;
  r.forwards = record.forwards;
  r.forwardTokens = record.forwardTokens;
  r.proxyForwards = record.proxyForwards;
  r.proxyForwardTokens = record.proxyTokens;
  r.knownForwards = record.knownForwards;
  r.parameterTokens = record.parameterTokens;
  r.ms = static_cast<double>(record.wallNs) / 1e6;
  r.complete = record.complete;
  r.samples = record.samples;
  r.seed = static_cast<uint64_t>(record.seed);
  r.confidence = record.confidence;
  r.notes = record.notes;
  r.levels = levelsOf(record.levelsJson);
  for (const storage::AttributionSource& s : record.sources) {
    Source source;
    source.id = s.id;
    source.text = s.text;
    source.start = s.start;
    source.end = s.end;
    source.score = s.score;
    source.perToken = s.perToken;
    source.standardError = s.standardError;
    source.ablatedLogProb = s.ablatedLogProb;
    source.label = s.label;
    r.sources.push_back(std::move(source));
  }
  for (size_t i = 0; i < r.sources.size(); ++i)
    r.sources[i].separatorEnd = i + 1 < r.sources.size() ? r.sources[i + 1].start : static_cast<int64_t>(record.context.size());
  for (const storage::AttributionOutcome& outcome : outcomes) {
    r.outcomes.push_back(outcomeOf(outcome));
    if (r.outcomes.back()->from == Outcome::From::noise) r.noiseLogProbs.push_back(outcome.logProbs);
  }
  // The baseline is the fullest context scored: what every other outcome is a part of.
  for (const auto& outcome : r.outcomes)
    if (outcome->from == Outcome::From::target && outcome->logProbs.size() == r.responseTokens.size()) {
      double total = 0;
      for (int t = r.spanFirst; t < r.spanLast; ++t) total += outcome->logProbs[static_cast<size_t>(t)];
      if (total != r.baseLogProb) continue;
      for (const double logProb : outcome->logProbs) r.responseNll.push_back(static_cast<float>(-logProb));
      break;
    }
  return r;
}

Result<std::shared_ptr<const KnownOutcomes>> knownOutcomes(storage::SessionFile& file, storage::Id run) {
  if (const auto flushed = file.flush(); !flushed) return Error{ErrorCode::failed, flushed.error().message, flushed.error().hint};
  const auto record = file.attribution(run);
  const auto outcomes = file.outcomes(run);
  if (!record || !*record || !outcomes)
    return Error{ErrorCode::usage, "Run " + std::to_string(run) + " of this session holds no attribution to go on with.", "Choose one that was stopped."};
  auto known = std::make_shared<KnownOutcomes>();
  known->context = (*record)->context;
  known->question = (*record)->question;
  known->responseTokens = (*record)->responseTokens;
  for (const storage::AttributionSource& s : (*record)->sources) known->sources.push_back({s.start, s.end});
  for (const storage::AttributionOutcome& outcome : *outcomes) known->outcomes.push_back(outcomeOf(outcome));
  return std::shared_ptr<const KnownOutcomes>(std::move(known));
}

}  // namespace winnow
