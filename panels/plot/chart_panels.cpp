// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/chart_panels.h"

#include <algorithm>
#include <cmath>

#include "experiments/format.h"

namespace winnow {
namespace {

bool isArea(const Chart::Panel& panel, const ChartSeries& s) { return panel.kind == Chart::Kind::stackedArea || (panel.kind == Chart::Kind::bars && !s.group.isEmpty()); }

bool isMapped(const ChartSeries& s) { return s.name.contains(QStringLiteral("mapped")); }

// Memory keeps its colours whatever else is in the chart.
int slotOf(const Chart::Panel& panel, size_t index) {
  if (!isArea(panel, panel.series[index])) return static_cast<int>(index);
  static const QStringList known{QStringLiteral("weights"), QStringLiteral("KV cache"), QStringLiteral("activations"), QStringLiteral("probabilities"),
                                 QStringLiteral("calibration"), QString(), QStringLiteral("metadata"), QStringLiteral("prefill twin")};
  if (isMapped(panel.series[index])) return 0;
  const qsizetype at = known.indexOf(panel.series[index].name);
  return at >= 0 ? static_cast<int>(at) : 5;
}

std::unique_ptr<QCustomPlot> makePlot(const QRectF& area, const PanelLook& look) {
  auto plot = std::make_unique<QCustomPlot>();
  plot->setPlottingHints(QCP::phFastPolylines);
  plot->setBackground(QBrush(Qt::NoBrush));
  plot->setViewport(QRect(QPoint(0, 0), area.size().toSize()));
  styleAxes(plot->axisRect(), look.style->theme, look.small);
  plot->xAxis->setNumberFormat(QStringLiteral("g"));
  return plot;
}

void render(QCustomPlot& plot, QCPPainter* painter, const QRectF& area) {
  painter->save();
  painter->translate(area.topLeft());
  plot.toPainter(painter, static_cast<int>(area.width()), static_cast<int>(area.height()));
  painter->restore();
}

QString axisTitle(const ChartAxis& axis) {
  if (axis.unit.isEmpty() || axis.unit == QLatin1String("B") || axis.unit == axis.title || axis.unit == QLatin1String("token") || axis.unit == QLatin1String("perplexity")) return axis.title;
  return QStringLiteral("%1 (%2)").arg(axis.title, axis.unit);
}

void frame(QCustomPlot& plot, const Chart::Panel& panel, const PanelLook& look, double left) {
  const QFontMetricsF metrics(look.small);
  const double titleHeight = metrics.height() + 8;
  plot.axisRect()->setAutoMargins(QCP::msNone);
  plot.axisRect()->setMargins(QMargins(static_cast<int>(left), 6, 14, static_cast<int>(metrics.height() + 10 + titleHeight)));
  plot.xAxis->setLabel(axisTitle(panel.x));
  plot.yAxis->setLabel(axisTitle(panel.y));
}

struct Lines {
  std::vector<BucketSeries> data;
  double lower = std::numeric_limits<double>::infinity(), upper = -std::numeric_limits<double>::infinity();
};

Lines collect(const Chart::Panel& panel) {
  Lines lines;
  for (const ChartSeries& s : panel.series) {
    BucketSeries b;
    for (size_t i = 0; i < s.y.size(); ++i)
      if (std::isfinite(s.x[i]) && (b.empty() || s.x[i] >= b.x().back())) b.append(s.x[i], s.y[i]);
    if (!b.empty()) {
      lines.lower = std::min(lines.lower, b.x().front());
      lines.upper = std::max(lines.upper, b.x().back());
    }
    lines.data.push_back(std::move(b));
  }
  if (!(lines.lower < lines.upper)) {
    if (!std::isfinite(lines.lower)) lines.lower = lines.upper = 0;
    lines.lower -= 0.5;
    lines.upper += 0.5;
  }
  return lines;
}

double leftMargin(const PanelLook& look) {
  const QFontMetricsF metrics(look.small);
  return metrics.horizontalAdvance(QStringLiteral("88.8 MiB")) + metrics.height() + 16;
}

// Where a small change matters more than the distance from 0, the axis starts near the smallest value.
double lowerEnd(const Chart::Panel& panel, double smallest, double largest) {
  if (panel.y.unit != QLatin1String("perplexity") || smallest < largest * 0.3) return 0;
  return std::max(0.0, smallest - (largest - smallest + largest * 0.02) * 0.3);
}

// An interval that comes with the data (a running perplexity), thin above and below its line.
void drawIntervals(QCPPainter* painter, const AxisPair& axes, const ChartSeries& s, const SeriesStyle& style) {
  painter->setPen(Qt::NoPen);
  painter->setBrush(style.band);
  QPolygonF area;
  for (size_t i = 0; i < s.low.size(); ++i)
    if (std::isfinite(s.low[i]) && std::isfinite(s.high[i])) area << axes.pixel(s.x[i], s.high[i]);
  for (size_t i = s.low.size(); i-- > 0;)
    if (std::isfinite(s.low[i]) && std::isfinite(s.high[i])) area << axes.pixel(s.x[i], s.low[i]);
  painter->drawPolygon(area);
}

void paintLines(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  auto plot = makePlot(area, look);
  frame(*plot, panel, look, leftMargin(look));
  plot->xAxis->grid()->setVisible(false);
  const Lines lines = collect(panel);
  const double pixels = area.width() - leftMargin(look) - 14;
  std::vector<PreparedLine> prepared;
  std::vector<double> maxima;
  double smallest = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < lines.data.size(); ++i) {
    prepared.push_back(prepareLine(lines.data[i], lines.lower, lines.upper, pixels));
    for (const QPointF& p : prepared.back().points) maxima.push_back(p.y()), smallest = std::min(smallest, p.y());
    for (const auto& c : prepared.back().band) maxima.push_back(c.high);
  }
  int beyond = 0;
  const double top = niceUpper(maxima, &beyond), bottom = lowerEnd(panel, smallest, top);
  plot->xAxis->setRange(lines.lower, lines.upper);
  plot->yAxis->setRange(bottom, bottom + (top - bottom) * (panel.markers.empty() ? 1.1 : 1.25));
  setTicker(plot->xAxis, panel.x, std::clamp(static_cast<int>(area.width() / 110), 2, 10));
  setTicker(plot->yAxis, panel.y, std::clamp(static_cast<int>(area.height() / 50), 2, 7));
  const AxisPair axes{plot->xAxis, plot->yAxis};
  new PaintedItem(plot->axisRect(), QStringLiteral("main"), 1, [&](QCPPainter* p) {
    for (size_t i = 0; i < prepared.size(); ++i) {
      drawBand(p, axes, prepared[i], theme.style(static_cast<int>(i)));
      if (!panel.series[i].low.empty()) drawIntervals(p, axes, panel.series[i], theme.style(static_cast<int>(i)));
    }
    for (size_t i = 0; i < prepared.size(); ++i) {
      const SeriesStyle& style = theme.style(static_cast<int>(i));
      const bool few = prepared[i].points.size() <= 400;
      drawLine(p, axes, prepared[i], style.pen(1.4, few && panel.series.size() > 1), style);
    }
    drawEpochs(p, axes, panel.markers, theme, look.small, true);
    if (beyond > 0) {
      p->setFont(look.small);
      p->setPen(theme.textSecondary);
      p->drawText(QRectF(plot->axisRect()->rect()).adjusted(0, 2, -4, 0), Qt::AlignRight | Qt::AlignTop,
                  QCoreApplication::translate("winnow::ChartPainter", "%Ln above the axis", nullptr, beyond));
    }
  });
  render(*plot, painter, area);
}

void paintStack(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  auto plot = makePlot(area, look);
  frame(*plot, panel, look, leftMargin(look));
  plot->xAxis->grid()->setVisible(false);
  const Lines lines = collect(panel);
  std::vector<std::vector<QPointF>> tops;
  std::vector<QPointF> below;
  if (!panel.series.empty()) {
    const std::vector<double>& x = panel.series.front().x;
    const size_t stride = std::max<size_t>(1, x.size() / static_cast<size_t>(std::max(area.width(), 1.0)));
    for (size_t i = stride - 1; i < x.size(); i += stride) below.emplace_back(x[i], 0);
    if (!x.empty() && (below.empty() || below.back().x() != x.back())) below.emplace_back(x.back(), 0);
  }
  std::vector<QPointF> base = below;
  double top = 0;
  for (size_t s = 0; s < panel.series.size(); ++s) {
    for (QPointF& p : below) {
      const double y = lines.data[s].nearest(p.x(), 0.5);
      if (std::isfinite(y)) p.ry() += y;
      top = std::max(top, p.y());
    }
    tops.push_back(below);
  }
  plot->xAxis->setRange(lines.lower, lines.upper);
  plot->yAxis->setRange(0, (top > 0 ? top : 1) * (panel.markers.empty() ? 1.1 : 1.25));
  setTicker(plot->xAxis, panel.x, std::clamp(static_cast<int>(area.width() / 110), 2, 10));
  setTicker(plot->yAxis, panel.y, std::clamp(static_cast<int>(area.height() / 50), 2, 7));
  const AxisPair axes{plot->xAxis, plot->yAxis};
  new PaintedItem(plot->axisRect(), QStringLiteral("main"), 1, [&](QCPPainter* p) {
    for (size_t s = 0; s < tops.size(); ++s)
      fillStackLayer(p, axes, s == 0 ? base : tops[s - 1], tops[s], theme.style(slotOf(panel, s)), isMapped(panel.series[s]));
    for (size_t s = 0; s < tops.size(); ++s) drawStackEdge(p, axes, s == 0 ? base : tops[s - 1], tops[s], theme.style(slotOf(panel, s)));
    drawEpochs(p, axes, panel.markers, theme, look.small, true);
  });
  render(*plot, painter, area);
}

struct Bar {
  double end = 0, low = std::numeric_limits<double>::quiet_NaN(), high = low;
  QString label;
};

std::vector<Bar> barsOf(const Chart::Panel& panel) {
  std::vector<Bar> bars(static_cast<size_t>(panel.x.categories.size()));
  const Format format;
  std::vector<bool> any(bars.size(), false);
  for (const ChartSeries& s : panel.series)
    for (size_t i = 0; i < s.y.size(); ++i) {
      const auto at = static_cast<size_t>(std::llround(s.x[i]));
      if (at >= bars.size() || !std::isfinite(s.y[i])) continue;
      any[at] = true;
      bars[at].end += s.y[i];
      if (i < s.low.size()) bars[at].low = s.low[i], bars[at].high = s.high[i];
    }
  for (size_t i = 0; i < bars.size(); ++i) bars[i].label = any[i] ? format.value(bars[i].end, panel.y.unit) : Format::missing();
  return bars;
}

void drawBars(QCPPainter* p, const AxisPair& axes, const Chart::Panel& panel, const std::vector<Bar>& bars, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  const QFontMetricsF metrics(look.small);
  const double rowHeight = std::fabs(axes.y->coordToPixel(1) - axes.y->coordToPixel(0)), half = std::min(11.0, rowHeight * 0.32);
  std::vector<double> start(bars.size(), 0);
  p->setAntialiasing(false);
  for (size_t s = 0; s < panel.series.size(); ++s) {
    const SeriesStyle& style = theme.style(slotOf(panel, s));
    for (size_t i = 0; i < panel.series[s].y.size(); ++i) {
      const auto at = static_cast<size_t>(std::llround(panel.series[s].x[i]));
      const double value = panel.series[s].y[i];
      if (at >= bars.size() || !std::isfinite(value) || value <= 0) continue;
      const double middle = axes.y->coordToPixel(static_cast<double>(at));
      const QRectF box(QPointF(axes.x->coordToPixel(start[at]), middle - half), QPointF(axes.x->coordToPixel(start[at] + value), middle + half));
      start[at] += value;
      p->setPen(QPen(style.line, 1));
      p->setBrush(style.band);
      p->drawRect(box);
      if (!isMapped(panel.series[s])) continue;
      QColor stripe = style.line;
      stripe.setAlphaF(0.45f);
      p->setBrush(look.style->vector ? QBrush(stripe, Qt::BDiagPattern) : hatchBrush(style));
      p->drawRect(box);
    }
  }
  p->setAntialiasing(true);
  p->setFont(look.small);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double middle = axes.y->coordToPixel(static_cast<double>(i));
    double right = axes.x->coordToPixel(bars[i].end);
    if (std::isfinite(bars[i].low) && std::isfinite(bars[i].high)) {
      const double low = axes.x->coordToPixel(std::max(0.0, bars[i].low)), high = axes.x->coordToPixel(bars[i].high);
      p->setPen(QPen(theme.text, 1.2));
      p->drawLine(QPointF(low, middle), QPointF(high, middle));
      for (const double end : {low, high}) p->drawLine(QPointF(end, middle - 3.5), QPointF(end, middle + 3.5));
      right = std::max(right, high);
    }
    p->setPen(theme.text);
    p->drawText(QPointF(right + 6, middle + metrics.ascent() / 2 - 1), bars[i].label);
  }
}

void paintBars(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  auto plot = makePlot(area, look);
  const QFontMetricsF metrics(look.small);
  const std::vector<Bar> bars = barsOf(panel);
  frame(*plot, panel, look, look.names ? look.namesWidth : 4);
  ChartAxis names{{}, {}, false, {}};
  for (const QString& name : panel.x.categories) names.categories << (look.names ? metrics.elidedText(name, Qt::ElideMiddle, look.namesWidth - 12) : QString());
  setTicker(plot->yAxis, names, 1);
  plot->yAxis->setTickLabels(look.names);
  plot->yAxis->setTickLabelColor(look.style->theme.text);
  plot->yAxis->setLabel({});
  plot->yAxis->grid()->setVisible(false);
  plot->yAxis->setRangeReversed(true);
  plot->yAxis->setRange(-0.5, static_cast<double>(bars.size()) - 0.5);
  plot->xAxis->setLabel(axisTitle(panel.y));
  double top = 0, labels = 0;
  for (const Bar& b : bars) {
    top = std::max({top, b.end, std::isfinite(b.high) ? b.high : 0});
    labels = std::max(labels, metrics.horizontalAdvance(b.label));
  }
  const double width = std::max(40.0, area.width() - (look.names ? look.namesWidth : 4) - 14);
  plot->xAxis->setRange(0, (top > 0 ? top : 1) / std::clamp(1 - (labels + 12) / width, 0.3, 1.0));
  setTicker(plot->xAxis, panel.y, std::clamp(static_cast<int>(width / 80), 2, 8));
  plot->xAxis->setBasePen(Qt::NoPen);
  new PaintedItem(plot->axisRect(), QStringLiteral("main"), 1, [&](QCPPainter* p) { drawBars(p, {plot->xAxis, plot->yAxis}, panel, bars, look); });
  render(*plot, painter, area);
}

// Right of its point, or where the next free place is; without one the point stays without a name.
void drawPointLabels(QCPPainter* p, const QRectF& within, const AxisPair& axes, const Chart::Panel& panel, const PanelLook& look) {
  const QFontMetricsF metrics(look.small);
  std::vector<QRectF> taken;
  for (const ChartSeries& s : panel.series)
    for (size_t i = 0; i < s.x.size(); ++i) taken.push_back(QRectF(axes.pixel(s.x[i], s.y[i]) - QPointF(5, 5), QSizeF(10, 10)));
  std::vector<QRectF> steps;  // the frontier's line, two thin boxes a step
  const ChartSeries& frontier = panel.series.front();
  for (size_t i = 1; i < frontier.x.size(); ++i) {
    const QPointF a = axes.pixel(frontier.x[i - 1], frontier.y[i - 1]), b = axes.pixel(frontier.x[i], frontier.y[i]), corner(b.x(), a.y());
    for (const auto& [from, to] : {std::pair(a, corner), std::pair(corner, b)}) steps.push_back(QRectF(from, to).normalized().adjusted(-1, -1, 1, 1));
  }
  taken.insert(taken.end(), steps.begin(), steps.end());
  p->setFont(look.small);
  for (const ChartSeries& s : panel.series)
    for (size_t i = 0; i < s.labels.size(); ++i) {
      const QPointF at = axes.pixel(s.x[i], s.y[i]);
      const QSizeF size(metrics.horizontalAdvance(s.labels[i]), metrics.height());
      const QPointF places[] = {at + QPointF(9, -size.height() / 2),  at + QPointF(9, -size.height() - 4), at + QPointF(9, 4),
                                at + QPointF(-9 - size.width(), -size.height() - 3), at + QPointF(-9 - size.width(), -size.height() / 2),
                                at + QPointF(-size.width() / 2, 9),   at + QPointF(-size.width() / 2, -size.height() - 9)};
      for (const QPointF& place : places) {
        const QRectF box(place, size);
        if (!within.contains(box) || std::any_of(taken.begin(), taken.end(), [&](const QRectF& t) { return t.intersects(box); })) continue;
        taken.push_back(box);
        p->setPen(Qt::NoPen);
        p->setBrush(look.style->theme.plot);
        p->drawRect(box);
        p->setPen(look.style->theme.text);
        p->drawText(box, Qt::AlignLeft | Qt::AlignVCenter, s.labels[i]);
        break;
      }
    }
}

void paintScatter(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  auto plot = makePlot(area, look);
  frame(*plot, panel, look, leftMargin(look));
  QCPRange x, y;
  bool first = true;
  for (const ChartSeries& s : panel.series)
    for (size_t i = 0; i < s.x.size(); ++i) {
      const double low = i < s.low.size() && std::isfinite(s.low[i]) ? s.low[i] : s.y[i], high = i < s.high.size() && std::isfinite(s.high[i]) ? s.high[i] : s.y[i];
      if (first) x = QCPRange(s.x[i], s.x[i]), y = QCPRange(low, high);
      first = false;
      x.expand(s.x[i]);
      y.expand(low), y.expand(high);
    }
  const double padX = std::max(x.size() * 0.12, x.upper * 0.04 + 1e-9), padY = std::max(y.size() * 0.12, y.upper * 0.02 + 1e-9);
  plot->xAxis->setRange(std::max(0.0, x.lower - padX), x.upper + padX * 1.6);
  plot->yAxis->setRange(std::max(0.0, y.lower - padY), y.upper + padY);
  setTicker(plot->xAxis, panel.x, std::clamp(static_cast<int>(area.width() / 110), 2, 10));
  setTicker(plot->yAxis, panel.y, std::clamp(static_cast<int>(area.height() / 50), 2, 7));
  const AxisPair axes{plot->xAxis, plot->yAxis};
  new PaintedItem(plot->axisRect(), QStringLiteral("main"), 6, [&](QCPPainter* p) {
    for (size_t s = 0; s < panel.series.size(); ++s) {
      const ChartSeries& series = panel.series[s];
      SeriesStyle style = s == 0 ? theme.style(0) : theme.style(6);
      style.marker = MarkerShape::circle;
      p->setPen(QPen(style.line, 1.4));
      for (size_t i = 1; s == 0 && i < series.x.size(); ++i) {  // nothing better is known between two points of the frontier: steps
        const QPointF a = axes.pixel(series.x[i - 1], series.y[i - 1]), b = axes.pixel(series.x[i], series.y[i]);
        p->drawLine(a, QPointF(b.x(), a.y()));
        p->drawLine(QPointF(b.x(), a.y()), b);
      }
      for (size_t i = 0; i < series.x.size(); ++i) {
        if (i < series.low.size() && std::isfinite(series.low[i])) {
          p->setPen(QPen(style.line, 1));
          p->drawLine(axes.pixel(series.x[i], series.low[i]), axes.pixel(series.x[i], series.high[i]));
        }
        drawMarker(p, axes.pixel(series.x[i], series.y[i]), style, 4.5, s == 0 ? nullptr : &theme.plot);
      }
    }
    drawPointLabels(p, plot->axisRect()->rect(), axes, panel, look);
  });
  render(*plot, painter, area);
}

}  // namespace

double nameColumnWidth(const Chart::Panel& panel, const QFont& font, double limit) {
  const QFontMetricsF metrics(font);
  double width = 40;
  for (const QString& name : panel.x.categories) width = std::max(width, metrics.horizontalAdvance(name));
  return std::min(width + 14, limit);
}

QRectF paintPanelHeader(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  QRectF left = area;
  if (look.title && !panel.title.isEmpty()) {
    const QFontMetricsF metrics(look.heading);
    painter->setFont(look.heading);
    painter->setPen(theme.text);
    const double indent = panel.kind == Chart::Kind::bars && look.names ? look.namesWidth : 4;
    painter->drawText(QRectF(left.left() + indent, left.top(), left.width() - indent, metrics.height()), Qt::AlignLeft | Qt::AlignVCenter,
                      metrics.elidedText(panel.title, Qt::ElideRight, left.width() - indent));
    left.setTop(left.top() + metrics.height() + 4);
  }
  if (look.legend && hasLegend(panel)) left.setTop(paintLegend(painter, left, panel, look, {}));
  return left;
}

double paintLegend(QCPPainter* painter, const QRectF& left, const Chart::Panel& panel, const PanelLook& look, const QString& lead) {
  const Theme& theme = look.style->theme;
  const QFontMetricsF metrics(look.small);
  double x = left.left() + 4, y = left.top() + 2;
  painter->setFont(look.small);
  if (!lead.isEmpty()) {
    painter->setPen(theme.textSecondary);
    painter->drawText(QPointF(x, y + metrics.height() / 2 + metrics.ascent() / 2 - 1), lead);
    x += metrics.horizontalAdvance(lead) + 12;
  }
  for (size_t i = 0; i < panel.series.size(); ++i) {
    const SeriesStyle& style = panel.kind == Chart::Kind::scatter ? theme.style(i == 0 ? 0 : 6) : theme.style(slotOf(panel, i));
    const double width = 24 + metrics.horizontalAdvance(panel.series[i].name) + 14;
    if (x > left.left() + 4 && x + width > left.right()) {
      x = left.left() + 4;
      y += metrics.height() + 5;
    }
    const double middle = y + metrics.height() / 2;
    if (isArea(panel, panel.series[i])) {
      painter->setPen(QPen(style.line, 1));
      painter->setBrush(isMapped(panel.series[i]) && !look.style->vector ? hatchBrush(style) : QBrush(style.band));
      painter->drawRect(QRectF(x, middle - 5, 16, 10));
      if (isMapped(panel.series[i]) && look.style->vector) {
        QColor stripe = style.line;
        stripe.setAlphaF(0.45f);
        painter->setBrush(QBrush(stripe, Qt::BDiagPattern));
        painter->drawRect(QRectF(x, middle - 5, 16, 10));
      }
    } else {
      painter->setPen(style.pen(1.8, panel.kind == Chart::Kind::line));
      if (panel.kind == Chart::Kind::line) painter->drawLine(QPointF(x, middle), QPointF(x + 18, middle));
      SeriesStyle marker = style;
      if (panel.kind == Chart::Kind::scatter) marker.marker = MarkerShape::circle;
      if (marker.marker != MarkerShape::none) drawMarker(painter, QPointF(x + 9, middle), marker, 3.2, panel.kind == Chart::Kind::scatter && i > 0 ? &theme.plot : nullptr);
    }
    painter->setPen(theme.textSecondary);
    painter->drawText(QPointF(x + 24, middle + metrics.ascent() / 2 - 1), panel.series[i].name);
    x += width;
  }
  return y + metrics.height() + 8;
}

void paintPanel(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const QRectF left = paintPanelHeader(painter, area, panel, look);
  if (left.height() < 40 || left.width() < 60) return;
  switch (panel.kind) {
    case Chart::Kind::line: return paintLines(painter, left, panel, look);
    case Chart::Kind::stackedArea: return paintStack(painter, left, panel, look);
    case Chart::Kind::bars: return paintBars(painter, left, panel, look);
    case Chart::Kind::scatter: return paintScatter(painter, left, panel, look);
    case Chart::Kind::heatmap: return paintHeatmap(painter, left, panel, look);
    case Chart::Kind::attribution: return paintAttribution(painter, left, panel, look);
    case Chart::Kind::text: return paintScoredText(painter, left, panel, look);
  }
}

}  // namespace winnow
