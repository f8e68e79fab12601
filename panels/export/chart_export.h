// SPDX-License-Identifier: GPL-3.0-or-later
// Charts as files: PNG, SVG, PDF, CSV, JSON, HTML. The export dialog and `winnow-cli export` call the same function. Needs a
// QApplication on any platform (winnow-cli starts one with "-platform offscreen"); CSV and JSON need none.
#pragma once
#include <QSizeF>
#include <QString>
#include <QStringList>
#include <utility>
#include <vector>

#include "engine/core/result.h"
#include "experiments/chart_data.h"

namespace winnow {

struct ExportOptions {
  QSizeF size;              // logical pixels (1/96 inch); empty: what suits the chart
  double scale = 2;         // PNG: device pixels per logical pixel, 1 to 4
  double fontScale = 1;
  bool dark = false;        // light is for print
  bool title = true, caption = true;
};

inline double pixelsFromMillimetres(double mm) { return mm / 25.4 * 96; }
inline double millimetresFromPixels(double px) { return px / 96 * 25.4; }

QStringList exportFormats();  // png svg pdf csv json html
// The format follows from the path's extension. The file appears whole or not at all.
Status exportChart(const Chart& chart, const ExportOptions& options, const QString& path);
// Several charts in one HTML file that needs nothing beside it: inline SVG, the data as JSON, how to make it again.
Status exportReport(const QString& title, const std::vector<Chart>& charts, const ExportOptions& options, const QString& path);

// For previews and the clipboard.
QByteArray toSvg(const Chart& chart, const ExportOptions& options);

}  // namespace winnow
