// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/export/chart_export.h"

#include <QApplication>
#include <QBuffer>
#include <QFileInfo>
#include <QImage>
#include <QPageLayout>
#include <QPageSize>
#include <QPdfWriter>
#include <QRegularExpression>
#include <QSaveFile>
#include <QSvgGenerator>
#include <algorithm>
#include <cmath>

#include "panels/export/html_report.h"
#include "panels/plot/chart_painter.h"

namespace winnow {
namespace {

constexpr double smallestSide = 120, largestSide = 8000;

Error exportError(ErrorCode code, const QString& message, const QString& hint = {}) { return {code, message.toStdString(), hint.toStdString()}; }

QSizeF sizeOf(const Chart& chart, const ExportOptions& options) {
  const QSizeF size = options.size.isEmpty() ? suitableSize(chart) : options.size;
  return {std::round(size.width()), std::round(size.height())};
}

ChartStyle styleOf(const ExportOptions& options, bool vector) {
  return {Theme::builtIn(options.dark), options.fontScale, options.title, options.caption, vector};
}

QByteArray toPng(const Chart& chart, const ExportOptions& options) {
  const QSizeF size = sizeOf(chart, options);
  QImage image((size * options.scale).toSize(), QImage::Format_RGB32);
  image.setDotsPerMeterX(static_cast<int>(std::lround(options.scale * 96 / 0.0254)));
  image.setDotsPerMeterY(image.dotsPerMeterX());
  paintChart(&image, size, chart, styleOf(options, false));
  image.setText(QStringLiteral("Title"), chart.title);
  image.setText(QStringLiteral("Description"), chart.caption);
  image.setText(QStringLiteral("Software"), QStringLiteral("Winnow"));
  QByteArray bytes;
  QBuffer buffer(&bytes);
  buffer.open(QIODevice::WriteOnly);
  image.save(&buffer, "PNG");
  return bytes;
}

QByteArray toPdf(const Chart& chart, const ExportOptions& options) {
  const QSizeF size = sizeOf(chart, options);
  QByteArray bytes;
  QBuffer buffer(&bytes);
  buffer.open(QIODevice::WriteOnly);
  {
    QPdfWriter pdf(&buffer);
    pdf.setResolution(1200);
    pdf.setTitle(chart.title);
    pdf.setCreator(QStringLiteral("Winnow"));
    pdf.setPageLayout(QPageLayout(QPageSize(size * 72 / 96, QPageSize::Point, QString(), QPageSize::ExactMatch), QPageLayout::Portrait, QMarginsF(0, 0, 0, 0)));
    paintChart(&pdf, size, chart, styleOf(options, true));
  }
  return bytes;
}

Status check(const Chart& chart, const ExportOptions& options, bool picture) {
  if (!picture) return Done{};
  if (!qobject_cast<QApplication*>(QCoreApplication::instance()))
    return exportError(ErrorCode::failed, QStringLiteral("Pictures of charts need an application object; CSV and JSON do not."));
  const QSizeF size = sizeOf(chart, options);
  for (const double side : {size.width(), size.height()})
    if (!(side >= smallestSide && side <= largestSide))
      return exportError(ErrorCode::usage, QStringLiteral("A chart of %1 × %2 pixels can't be exported: each side has to be %3 to %4.")
                                               .arg(size.width()).arg(size.height()).arg(smallestSide).arg(largestSide));
  if (!(options.scale >= 1 && options.scale <= 4))
    return exportError(ErrorCode::usage, QStringLiteral("The scale is %1; it has to be 1 to 4.").arg(options.scale));
  if (!(options.fontScale >= 0.5 && options.fontScale <= 3))
    return exportError(ErrorCode::usage, QStringLiteral("The font scale is %1; it has to be 0.5 to 3.").arg(options.fontScale));
  return Done{};
}

Status write(const QString& path, const QByteArray& bytes) {
  QSaveFile file(path);
  if (!file.open(QIODevice::WriteOnly) || file.write(bytes) != bytes.size() || !file.commit())
    return exportError(ErrorCode::failed, QStringLiteral("Can't write %1: %2.").arg(path, file.errorString()), QStringLiteral("Choose a folder that exists and can be written."));
  return Done{};
}

}  // namespace

QStringList exportFormats() {
  return {QStringLiteral("png"), QStringLiteral("svg"), QStringLiteral("pdf"), QStringLiteral("csv"), QStringLiteral("json"), QStringLiteral("html")};
}

QByteArray toSvg(const Chart& chart, const ExportOptions& options) {
  const QSizeF size = sizeOf(chart, options);
  QByteArray bytes;
  QBuffer buffer(&bytes);
  buffer.open(QIODevice::WriteOnly);
  QSvgGenerator svg;
  svg.setOutputDevice(&buffer);
  svg.setResolution(96);
  svg.setSize(size.toSize());
  svg.setViewBox(QRectF(QPointF(0, 0), size));
  svg.setTitle(chart.title);
  svg.setDescription(chart.caption);
  paintChart(&svg, size, chart, styleOf(options, true));
  // Where the family is missing, another sans-serif is nearer than a browser's default.
  QString text = QString::fromUtf8(bytes);
  static const QRegularExpression family(QStringLiteral("font-family=\"([^\"]+)\""));
  text.replace(family, QStringLiteral("font-family=\"\\1, sans-serif\""));
  return text.toUtf8();
}

Status exportChart(const Chart& chart, const ExportOptions& options, const QString& path) {
  const QString format = QFileInfo(path).suffix().toLower();
  if (!exportFormats().contains(format))
    return exportError(ErrorCode::usage, format.isEmpty() ? QStringLiteral("%1 has no extension; it says the format: %2.").arg(path, exportFormats().join(QStringLiteral(", ")))
                                                          : QStringLiteral("Charts can't be written as .%1; there are %2.").arg(format, exportFormats().join(QStringLiteral(", "))));
  if (chart.panels.empty()) return exportError(ErrorCode::badInput, QStringLiteral("The chart is empty."));
  const bool picture = format != QLatin1String("csv") && format != QLatin1String("json");
  if (auto ok = check(chart, options, picture); !ok) return ok;
  if (format == QLatin1String("csv")) return write(path, toCsv(chart));
  if (format == QLatin1String("json")) return write(path, toJson(chart));
  if (format == QLatin1String("png")) return write(path, toPng(chart, options));
  if (format == QLatin1String("svg")) return write(path, toSvg(chart, options));
  if (format == QLatin1String("pdf")) return write(path, toPdf(chart, options));
  return write(path, toHtml(chart.title, {chart}, options));
}

Status exportReport(const QString& title, const std::vector<Chart>& charts, const ExportOptions& options, const QString& path) {
  if (charts.empty()) return exportError(ErrorCode::badInput, QStringLiteral("The report has no chart."));
  for (const Chart& chart : charts)
    if (auto ok = check(chart, options, true); !ok) return ok;
  return write(path, toHtml(title, charts, options));
}

}  // namespace winnow
