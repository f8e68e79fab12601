// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/attribution_files.h"

#include <QCoreApplication>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <cmath>

#include "panels/attribution/source_model.h"

namespace winnow {
namespace {

QString tr(const char* text) { return QCoreApplication::translate("winnow::AttributionFiles", text); }
QString words(const std::string& text) { return QString::fromStdString(text); }

QByteArray quoted(QByteArray text) { return '"' + text.replace('"', "\"\"") + '"'; }
QByteArray number(const std::optional<double>& value) { return value ? QByteArray::number(*value, 'g', 9) : QByteArray(); }
QJsonValue json(const std::optional<double>& value) { return value ? QJsonValue(*value) : QJsonValue(); }

QByteArray tokenText(const AttributeResult& result, size_t token) {
  const int64_t begin = token == 0 ? 0 : result.responseEnds[token - 1], end = result.responseEnds[token];
  return QByteArray::fromStdString(end > begin ? result.response.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin))
                                               : std::string());
}

QJsonArray numbers(const std::vector<float>& values) {
  QJsonArray out;
  for (const float value : values) out.append(static_cast<double>(value));
  return out;
}

QJsonObject sourceJson(const Source& source) {
  QJsonObject out{{QStringLiteral("id"), source.id},
                  {QStringLiteral("text"), words(source.text)},
                  {QStringLiteral("start"), static_cast<qint64>(source.start)},
                  {QStringLiteral("end"), static_cast<qint64>(source.end)},
                  {QStringLiteral("score"), json(source.score)}};
  if (!source.label.empty()) out[QStringLiteral("label")] = words(source.label);
  if (source.standardError) out[QStringLiteral("standard_error")] = *source.standardError;
  if (source.ablatedLogProb) out[QStringLiteral("log_p_without")] = *source.ablatedLogProb;
  if (!source.perToken.empty()) out[QStringLiteral("per_token")] = numbers(source.perToken);
  return out;
}

QJsonArray differenceJson(const AttributionDifference& difference) {
  QJsonArray rows;
  for (const auto& row : difference.rows)
    rows.append(QJsonObject{{QStringLiteral("source"), row.source},
                            {QStringLiteral("a"), json(row.a)},
                            {QStringLiteral("b"), json(row.b)},
                            {QStringLiteral("difference"), json(row.difference)},
                            {QStringLiteral("noise"), row.noise}});
  return rows;
}

Chart::Panel barsOf(const QString& title, const QString& unit) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::attribution;
  panel.title = title;
  panel.x.title = tr("source");
  panel.y.title = tr("change of log probability without it");
  panel.y.unit = unit;
  return panel;
}

ChartSeries noiseBand(double noise) { return {tr("noise"), {}, {0, 1}, {-noise, noise}, {}, {}, {}}; }

// The context with the sources' scores, in reading order; what lies between sources has none.
Chart::Panel textPanel(const std::string& context, const std::vector<Source>& sources, const std::vector<double>& scores, double noise) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::text;
  panel.title = tr("Context");
  panel.y.unit = QStringLiteral("nat");
  ChartSeries s;
  s.name = tr("score");
  const auto add = [&](int64_t begin, int64_t end, double id, double score) {
    if (end <= begin || begin < 0 || end > static_cast<int64_t>(context.size())) return;
    s.x.push_back(id);
    s.y.push_back(score);
    s.labels.push_back(words(context.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin))));
  };
  int64_t at = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    add(at, sources[i].start, -1, std::nan(""));
    add(sources[i].start, sources[i].end, sources[i].id, scores[i]);
    at = sources[i].end;
  }
  add(at, static_cast<int64_t>(context.size()), -1, std::nan(""));
  panel.series.push_back(std::move(s));
  if (noise > 0) panel.series.push_back(noiseBand(noise));
  return panel;
}

Chart::Panel tokenPanel(const AttributeResult& result) {
  Chart::Panel heat;
  heat.kind = Chart::Kind::heatmap;
  heat.title = tr("By answer token");
  heat.x.title = tr("answer token");
  heat.x.unit = QStringLiteral("token");
  heat.y.title = tr("source");
  heat.y.unit = QStringLiteral("nat");
  for (size_t i = 0; i < result.responseEnds.size(); ++i) heat.x.categories << QString::fromUtf8(tokenText(result, i));
  for (const Source& source : result.sources) {
    if (source.perToken.size() != result.responseEnds.size()) continue;
    heat.cells.push_back(source.perToken);
    heat.y.categories << words(source.text).simplified();
  }
  return heat;
}

}  // namespace

QByteArray attributionCsv(const AttributeResult& result) {
  QByteArray out = "id,start_byte,end_byte,score_nat,text,label,standard_error,log_p_without,noise";
  const size_t tokens = result.responseEnds.size();
  for (size_t i = 0; i < tokens; ++i)
    out += ',' + quoted("token " + QByteArray::number(static_cast<qulonglong>(i)) + ' ' + tokenText(result, i));
  out += "\r\n";
  for (const Source& source : result.sources) {
    out += QByteArray::number(source.id) + ',' + QByteArray::number(static_cast<qlonglong>(source.start)) + ',' +
           QByteArray::number(static_cast<qlonglong>(source.end)) + ',' + number(source.score) + ',' +
           quoted(QByteArray::fromStdString(source.text)) + ',' + quoted(QByteArray::fromStdString(source.label)) + ',' +
           number(source.standardError) + ',' + number(source.ablatedLogProb) + ',' +
           (source.score ? QByteArray(std::fabs(*source.score) <= result.noiseFloor ? "1" : "0") : QByteArray());
    for (size_t i = 0; i < tokens; ++i)
      out += ',' + (i < source.perToken.size() ? number(static_cast<double>(source.perToken[i])) : QByteArray());
    out += "\r\n";
  }
  return out;
}

QByteArray attributionJson(const AttributeResult& result, const QString& question, const AttributionDifference* compared) {
  QJsonArray list, notes, tokens;
  for (const Source& source : result.sources) list.append(sourceJson(source));
  for (const std::string& note : result.notes) notes.append(words(note));
  for (size_t i = 0; i < result.responseEnds.size(); ++i) tokens.append(QString::fromUtf8(tokenText(result, i)));
  QJsonObject all{{QStringLiteral("method"), words(result.method)},
                  {QStringLiteral("tricks"), words(result.tricks)},
                  {QStringLiteral("unit"),
                   QString::fromUtf8(sourceUnitName(result.unit).data(), static_cast<qsizetype>(sourceUnitName(result.unit).size()))},
                  {QStringLiteral("question"), question},
                  {QStringLiteral("response"), words(result.response)},
                  {QStringLiteral("tokens"), tokens},
                  {QStringLiteral("first_token"), result.spanFirst},
                  {QStringLiteral("end_token"), result.spanLast},
                  {QStringLiteral("log_p"), result.baseLogProb},
                  {QStringLiteral("noise_floor"), result.noiseFloor},
                  {QStringLiteral("complete"), result.complete},
                  {QStringLiteral("forwards"), static_cast<qint64>(result.forwards)},
                  {QStringLiteral("forward_tokens"), static_cast<qint64>(result.forwardTokens)},
                  {QStringLiteral("ms"), result.ms},
                  {QStringLiteral("notes"), notes},
                  {QStringLiteral("sources"), list}};
  if (compared) all[QStringLiteral("compared")] = differenceJson(*compared);
  return QJsonDocument(all).toJson();
}

QString attributionTabSeparated(const AttributeResult& result) {
  SourceModel model;
  model.setResult(result);
  QStringList lines;
  QStringList head;
  for (int column = 0; column < SourceModel::columns; ++column)
    head << model.headerData(column, Qt::Horizontal, Qt::DisplayRole).toString();
  lines << head.join(QLatin1Char('\t'));
  for (int row = 0; row < model.rowCount(); ++row) {
    QStringList cells;
    for (int column = 0; column < SourceModel::columns; ++column)
      cells << model.index(row, column).data().toString().replace(QLatin1Char('\t'), QLatin1Char(' '));
    lines << cells.join(QLatin1Char('\t'));
  }
  return lines.join(QLatin1Char('\n'));
}

Chart attributionChart(const AttributeResult& result, const std::string& context, const AttributionDifference* compared) {
  Chart chart;
  chart.name = QStringLiteral("attribution");
  chart.title = tr("What supports “%1”").arg(words(result.response).simplified().left(160));
  std::vector<double> scores;
  Chart::Panel bars = barsOf(tr("Sources"), QStringLiteral("nat"));
  ChartSeries s;
  s.name = words(result.method);
  for (const Source& source : result.sources) {
    scores.push_back(source.score.value_or(std::nan("")));
    s.x.push_back(source.id);
    s.y.push_back(scores.back());
    s.low.push_back(source.score && source.standardError ? *source.score - *source.standardError : std::nan(""));
    s.high.push_back(source.score && source.standardError ? *source.score + *source.standardError : std::nan(""));
    s.labels.push_back(SourceModel::nameOf(source));
  }
  const std::vector<QString> labels = s.labels;
  bars.series.push_back(std::move(s));
  if (result.noiseFloor > 0) bars.series.push_back(noiseBand(result.noiseFloor));
  if (compared) {
    std::vector<double> differences(scores.size(), std::nan(""));
    for (const auto& row : compared->rows)
      if (row.difference && row.source < static_cast<int>(differences.size()))
        differences[static_cast<size_t>(row.source)] = *row.difference;
    Chart::Panel change = barsOf(tr("What changed from A to B"), compared->shares ? QString() : QStringLiteral("nat"));
    ChartSeries d{tr("B − A"), {}, {}, differences, {}, {}, labels};
    for (const Source& source : result.sources) d.x.push_back(source.id);
    change.series.push_back(std::move(d));
    chart.panels.push_back(textPanel(context, result.sources, differences, 0));
    chart.panels.push_back(std::move(change));
  } else {
    chart.panels.push_back(textPanel(context, result.sources, scores, result.noiseFloor));
    chart.panels.push_back(std::move(bars));
    if (Chart::Panel heat = tokenPanel(result); !heat.cells.empty()) chart.panels.push_back(std::move(heat));
  }
  if (!result.complete) chart.notes << tr("Stopped early: sources without a bar were not evaluated.");
  if (result.noiseFloor > 0) chart.notes << tr("Scores within ±%1 nat are noise.").arg(QString::number(result.noiseFloor, 'g', 2));
  for (const std::string& note : result.notes) chart.notes << words(note);
  chart.caption = tr("%1, %2 passes").arg(words(result.method)).arg(result.forwards);
  return chart;
}

}  // namespace winnow
