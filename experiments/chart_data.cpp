// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/chart_data.h"

#include <QCoreApplication>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <cmath>

#include "experiments/chart_builders.h"

namespace winnow {
namespace {

struct NamedBuilder {
  const char* name;
  Result<Chart> (*build)(storage::SessionFile&, const RunList&, bool chosen, RunList& used);
};
constexpr NamedBuilder builders[] = {
    {"latency", buildLatency},       {"memory", buildMemory}, {"perplexity", buildPerplexity},   {"comparison", buildComparison},
    {"pareto", buildPareto},         {"attribution", buildAttribution}, {"attribution-pareto", buildAttributionPareto}, {"kv", buildCache},
    {"retrieval", buildRetrieval},  {"depth", buildDepth},
};

QString csvField(const QString& text) {
  if (!text.contains(u',') && !text.contains(u'"') && !text.contains(u'\n') && !text.contains(u'\r')) return text;
  return u'"' + QString(text).replace(u'"', QStringLiteral("\"\"")) + u'"';
}

QString csvNumber(double v) { return std::isnan(v) ? QString() : QString::number(v, 'g', 17); }

QJsonValue jsonNumber(double v) { return std::isfinite(v) ? QJsonValue(v) : QJsonValue(QJsonValue::Null); }

QJsonArray jsonNumbers(const std::vector<double>& values) {
  QJsonArray array;
  for (const double v : values) array.append(jsonNumber(v));
  return array;
}

QJsonObject jsonAxis(const ChartAxis& axis) {
  QJsonObject o{{QStringLiteral("title"), axis.title}, {QStringLiteral("unit"), axis.unit}, {QStringLiteral("logarithmic"), axis.logarithmic}};
  if (!axis.categories.isEmpty()) o[QStringLiteral("categories")] = QJsonArray::fromStringList(axis.categories);
  return o;
}

QString kindName(Chart::Kind kind) {
  static constexpr const char* names[] = {"line", "stacked_area", "bars", "scatter", "heatmap", "attribution", "text"};
  return QString::fromLatin1(names[static_cast<int>(kind)]);
}

QJsonObject jsonPanel(const Chart::Panel& panel) {
  QJsonArray series, markers, cells;
  for (const ChartSeries& s : panel.series) {
    QJsonObject o{{QStringLiteral("name"), s.name}, {QStringLiteral("x"), jsonNumbers(s.x)}, {QStringLiteral("y"), jsonNumbers(s.y)}};
    if (!s.group.isEmpty()) o[QStringLiteral("group")] = s.group;
    if (!s.low.empty()) o[QStringLiteral("low")] = jsonNumbers(s.low);
    if (!s.high.empty()) o[QStringLiteral("high")] = jsonNumbers(s.high);
    if (!s.labels.empty()) o[QStringLiteral("labels")] = QJsonArray::fromStringList(QStringList(s.labels.begin(), s.labels.end()));
    series.append(o);
  }
  for (const ChartMarker& m : panel.markers) markers.append(QJsonObject{{QStringLiteral("x"), jsonNumber(m.x)}, {QStringLiteral("label"), m.label}});
  for (const auto& row : panel.cells) cells.append(jsonNumbers({row.begin(), row.end()}));
  QJsonObject o{{QStringLiteral("kind"), kindName(panel.kind)}, {QStringLiteral("title"), panel.title}, {QStringLiteral("x"), jsonAxis(panel.x)},
                {QStringLiteral("y"), jsonAxis(panel.y)},       {QStringLiteral("series"), series},     {QStringLiteral("markers"), markers}};
  if (!cells.isEmpty()) o[QStringLiteral("cells")] = cells;
  return o;
}

QString category(const Chart::Panel& panel, double x) {
  if (panel.x.categories.isEmpty() || !std::isfinite(x)) return {};
  const qsizetype index = static_cast<qsizetype>(std::llround(x));
  return index >= 0 && index < panel.x.categories.size() ? panel.x.categories[index] : QString();
}

}  // namespace

QStringList chartNames() {
  QStringList names;
  for (const NamedBuilder& b : builders) names << QString::fromLatin1(b.name);
  return names;
}

Result<Chart> buildChart(storage::SessionFile& session, const QString& name, const std::vector<storage::Id>& ids) {
  for (const NamedBuilder& b : builders) {
    if (name != QLatin1String(b.name)) continue;
    auto runs = selectRuns(session, ids);
    if (!runs) return runs.error();
    if (runs->empty())
      return Error{ErrorCode::badInput, "There is nothing to chart: " + session.path() + " holds no finished run.", "Generate, evaluate or run a plan first."};
    RunList used;
    auto chart = b.build(session, *runs, !ids.empty(), used);
    if (!chart) return chart;
    chart->name = name;
    chart->caption = captionOf(used) + chart->caption;
    chart->reproducibility = reproducibilityOf(session, used);
    return chart;
  }
  return Error{ErrorCode::usage, "There is no chart named '" + name.toStdString() + "'; there are " + chartNames().join(QStringLiteral(", ")).toStdString() + ".", {}};
}

// One row per point, so that charts of any shape have the same columns. Units stand beside their numbers.
QByteArray toCsv(const Chart& chart) {
  QString out = QStringLiteral("chart,panel,series,group,x_name,x_unit,x,category,y_name,y_unit,y,low,high,label\n");
  const auto row = [&](const QStringList& fields) {
    QStringList quoted;
    for (const QString& f : fields) quoted << csvField(f);
    out += quoted.join(u',') + u'\n';
  };
  for (const Chart::Panel& p : chart.panels) {
    const auto at = [](const std::vector<double>& v, size_t i) { return i < v.size() ? csvNumber(v[i]) : QString(); };
    for (const ChartSeries& s : p.series)
      for (size_t i = 0; i < s.y.size(); ++i)
        row({chart.name, p.title, s.name, s.group, p.x.title, p.x.unit, at(s.x, i), i < s.x.size() ? category(p, s.x[i]) : QString(), p.y.title, p.y.unit,
             at(s.y, i), at(s.low, i), at(s.high, i), i < s.labels.size() ? s.labels[i] : QString()});
    for (const ChartMarker& m : p.markers)
      row({chart.name, p.title, QStringLiteral("change"), {}, p.x.title, p.x.unit, csvNumber(m.x), {}, {}, {}, {}, {}, {}, m.label});
    for (size_t r = 0; r < p.cells.size(); ++r)
      for (size_t c = 0; c < p.cells[r].size(); ++c)
        row({chart.name, p.title, QStringLiteral("row %1").arg(r), {}, p.x.title, p.x.unit, QString::number(c), category(p, static_cast<double>(c)), p.y.title,
             p.y.unit, csvNumber(static_cast<double>(p.cells[r][c])), {}, {}, r < static_cast<size_t>(p.y.categories.size()) ? p.y.categories[static_cast<qsizetype>(r)] : QString()});
  }
  return out.toUtf8();
}

QByteArray toJson(const Chart& chart) {
  QJsonArray panels;
  for (const Chart::Panel& p : chart.panels) panels.append(jsonPanel(p));
  QJsonArray again;
  for (const auto& [key, value] : chart.reproducibility) again.append(QJsonObject{{QStringLiteral("name"), key}, {QStringLiteral("value"), value}});
  const QJsonObject root{{QStringLiteral("winnow_chart"), 1},
                         {QStringLiteral("name"), chart.name},
                         {QStringLiteral("title"), chart.title},
                         {QStringLiteral("caption"), chart.caption},
                         {QStringLiteral("notes"), QJsonArray::fromStringList(chart.notes)},
                         {QStringLiteral("reproducibility"), again},
                         {QStringLiteral("panels"), panels}};
  return QJsonDocument(root).toJson(QJsonDocument::Indented);
}

}  // namespace winnow
