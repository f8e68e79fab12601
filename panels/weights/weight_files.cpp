// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/weight_files.h"

#include <QCoreApplication>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <algorithm>
#include <cmath>
#include <limits>

namespace winnow {
namespace {

QString tr(const char* text) { return QCoreApplication::translate("winnow::WeightFiles", text); }
bool measured(const Sensitivity::Point& point) { return point.state == storage::PointState::done; }
QByteArray number(std::optional<double> value) { return value && std::isfinite(*value) ? QByteArray::number(*value, 'g', 9) : QByteArray(); }
QJsonValue json(std::optional<double> value) { return value && std::isfinite(*value) ? QJsonValue(*value) : QJsonValue(); }

Chart::Panel mapPanel(const WeightReport& report, WeightQuantity quantity) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::heatmap;
  panel.title = tr("%1 by layer and matrix").arg(quantityName(quantity));
  panel.x.title = tr("matrix");
  panel.y.title = tr("layer");
  panel.y.unit = quantityUnit(quantity);
  std::vector<TensorRole> roles;
  for (const TensorReport& row : report.tensors)
    if (row.layer >= 0 && std::find(roles.begin(), roles.end(), row.role) == roles.end()) roles.push_back(row.role);
  std::sort(roles.begin(), roles.end());
  for (const TensorRole role : roles) panel.x.categories << roleLabel(role);
  const float scale = panel.y.unit == QLatin1String("%") ? 100.0f : 1.0f;
  for (int layer = 0; layer < report.layers; ++layer) {
    std::vector<float> cells(roles.size(), std::numeric_limits<float>::quiet_NaN());
    for (const TensorReport& row : report.tensors) {
      const auto value = quantityOf(row, quantity);
      if (row.layer == layer && value && std::isfinite(*value))
        cells[static_cast<size_t>(std::find(roles.begin(), roles.end(), row.role) - roles.begin())] = static_cast<float>(*value) * scale;
    }
    panel.cells.push_back(std::move(cells));
    panel.y.categories << QString::number(layer);
  }
  return panel;
}

Chart::Panel sensitivityPanel(const Sensitivity& sensitivity) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::bars;
  panel.title = tr("KL divergence when only this is compressed");
  panel.y.title = tr("mean KL divergence from the uncompressed model");
  panel.y.unit = QStringLiteral("nat");
  ChartSeries series;
  series.name = tr("only this");
  for (const Sensitivity::Point& point : sensitivity.points) {
    if (!measured(point) || point.rule.isEmpty()) continue;
    series.x.push_back(static_cast<double>(panel.x.categories.size()));
    series.y.push_back(point.kld);
    series.low.push_back(point.kldLow);
    series.high.push_back(point.kldHigh);
    panel.x.categories << (point.layer >= 0 ? tr("layer %1").arg(point.layer) : point.name);
  }
  panel.series.push_back(std::move(series));
  return panel;
}

}  // namespace

QByteArray weightCsv(const WeightReport& report, const Sensitivity& sensitivity) {
  QByteArray out = "tensor,layer,matrix,rows,columns,format,bytes,bits_per_weight,zeros,sqnr_db,relative_error,max_error,output_error\r\n";
  for (const TensorReport& row : report.tensors)
    out += QByteArray::fromStdString(row.name) + ',' + (row.layer < 0 ? QByteArray() : QByteArray::number(row.layer)) + ',' + roleLabel(row.role).toUtf8() + ',' +
           QByteArray::number(row.rows) + ',' + QByteArray::number(row.cols) + ',' + QByteArray::fromStdString(row.format) + ',' +
           QByteArray::number(static_cast<qlonglong>(row.bytes)) + ',' + number(row.bits) + ',' + number(row.sparsity) + ',' + number(row.sqnr()) + ',' +
           number(row.relativeError()) + ',' + number(row.maxError) + ',' + number(row.outputError) + "\r\n";
  if (sensitivity.done == 0) return out;
  out += "\r\nonly_compressed,kld_mean,kld_low,kld_high,perplexity\r\n";
  for (const Sensitivity::Point& point : sensitivity.points)
    if (measured(point))
      out += '"' + point.rule.toUtf8() + "\"," + number(point.kld) + ',' + number(point.kldLow) + ',' + number(point.kldHigh) + ',' + number(point.perplexity) + "\r\n";
  return out;
}

QByteArray weightJson(const WeightReport& report, const QString& settings, const Sensitivity& sensitivity) {
  QJsonArray rows, points;
  for (const TensorReport& row : report.tensors) {
    QJsonObject object{{"tensor", QString::fromStdString(row.name)}, {"matrix", roleLabel(row.role)}, {"rows", row.rows}, {"columns", row.cols},
                       {"format", QString::fromStdString(row.format)}, {"bytes", static_cast<qint64>(row.bytes)}, {"exact", row.exact()}, {"max_error", row.maxError}};
    object["layer"] = row.layer < 0 ? QJsonValue() : QJsonValue(row.layer);
    for (int q = 0; q < static_cast<int>(WeightQuantity::count); ++q)
      object[quantityKey(static_cast<WeightQuantity>(q))] = json(quantityOf(row, static_cast<WeightQuantity>(q)));
    rows.append(object);
  }
  for (const Sensitivity::Point& point : sensitivity.points)
    if (measured(point))
      points.append(QJsonObject{{"only_compressed", point.rule}, {"kld_mean", point.kld}, {"kld_low", point.kldLow}, {"kld_high", point.kldHigh}, {"perplexity", point.perplexity}});
  QJsonObject all{{"settings", settings}, {"bytes", static_cast<qint64>(report.bytes)}, {"file_bytes", static_cast<qint64>(report.masterBytes)}, {"matrices", rows}};
  if (!points.isEmpty()) all["sensitivity"] = QJsonObject{{"settings", sensitivity.settings}, {"protocol", sensitivity.protocol}, {"points", points}};
  return QJsonDocument(all).toJson();
}

Chart weightChart(const WeightReport& report, WeightQuantity quantity, const QString& model, const QString& settings, const Sensitivity& sensitivity) {
  Chart chart;
  chart.name = QStringLiteral("weights");
  chart.title = tr("Weights of %1").arg(model);
  chart.caption = settings.isEmpty() ? tr("as in the file") : settings;
  chart.panels.push_back(mapPanel(report, quantity));
  chart.notes << quantityMeaning(quantity);
  if (quantity == WeightQuantity::sqnr) chart.notes << tr("Empty cells are exact.");
  if (sensitivity.done > 1) {
    chart.panels.push_back(sensitivityPanel(sensitivity));
    chart.notes << tr("Sensitivity: %1, %2.").arg(sensitivity.settings.isEmpty() ? tr("round to nearest") : sensitivity.settings, sensitivity.protocol);
  }
  return chart;
}

}  // namespace winnow
