// SPDX-License-Identifier: GPL-3.0-or-later
// One panel of a chart, by kind. Private to panels/plot: it includes QCustomPlot.
#pragma once
#include "panels/plot/chart_painter.h"
#include "panels/plot/drawing.h"

namespace winnow {

struct PanelLook {
  const ChartStyle* style;
  QFont font, small, heading;
  bool names = true;        // bars: the names of the rows stand at the left
  double namesWidth = 0;
  bool title = true;
  bool legend = true;       // false: it stands above all panels
};

// Draws into `area` of the painter.
void paintPanel(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look);
double nameColumnWidth(const Chart::Panel& panel, const QFont& font, double limit);

// Of chart_rows.cpp: panels without value axes of their own.
void paintAttribution(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look);
void paintHeatmap(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look);
void paintScoredText(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look);

// The legend of several series, behind `lead`; returns the top of what is left below it.
double paintLegend(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look, const QString& lead);
inline bool hasLegend(const Chart::Panel& panel) { return panel.series.size() > 1 && panel.kind != Chart::Kind::attribution && panel.kind != Chart::Kind::text; }

// Title and, for several series, a legend; returns what is left below them.
QRectF paintPanelHeader(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look);

}  // namespace winnow
