// SPDX-License-Identifier: GPL-3.0-or-later
// Paints a Chart on any paint device: the compare view, the export preview and every exported file come from here.
#pragma once
#include <QPaintDevice>
#include <QSizeF>

#include "experiments/chart_data.h"
#include "panels/theme/theme.h"

namespace winnow {

struct ChartStyle {
  Theme theme;
  double fontScale = 1;
  bool title = true;
  bool caption = true;   // with the notes
  bool vector = false;   // the device keeps shapes: no tricks for pixels
};

// Fills the whole device, laid out for `size` logical pixels (1/96 inch). Needs a QApplication (any platform, also offscreen).
void paintChart(QPaintDevice* device, const QSizeF& size, const Chart& chart, const ChartStyle& style);
// A size that suits the chart: rows and panels have the room they need.
QSizeF suitableSize(const Chart& chart, double width = 1000);

}  // namespace winnow
