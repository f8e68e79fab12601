// SPDX-License-Identifier: GPL-3.0-or-later
// What a PlotWidget holds. Private to panels/plot.
#pragma once
#include <QGridLayout>
#include <QLabel>

#include "panels/plot/legend.h"
#include "panels/plot/plot_scene.h"
#include "panels/plot/plot_widget.h"

namespace winnow {

struct PlotWidget::Impl {
  PlotContext context;
  QString id, title;
  std::unique_ptr<PlotScene> scene;
  QLabel *titleLabel = nullptr, *unit = nullptr, *note = nullptr, *empty = nullptr;
  SeriesLegend* legend = nullptr;
  std::vector<LegendEntry*> entries;
  QStringList markerDetails;
  QGridLayout* header = nullptr;
  bool legendBelow = false;
  int replots = 0;
  QPoint pressedAt;                    // of the left button
  std::optional<double> measureFrom;   // Ctrl+drag
};

}  // namespace winnow
