// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/plot_scene.h"

#include <algorithm>
#include <cmath>

#include "panels/plot/marker_layout.h"

namespace winnow {

PlotScene::PlotScene(ChartAxis x, ChartAxis y, QWidget* parent) : plot_(new QCustomPlot(parent)), x_(std::move(x)), y_(std::move(y)) {
  // Without phImmediateRefresh a replot waits for the next paint; the fast hint keeps thick lines off the slow stroker.
  plot_->setPlottingHints(QCP::phFastPolylines | QCP::phCacheLabels);
  plot_->setNoAntialiasingOnDrag(true);
  plot_->setFocusPolicy(Qt::NoFocus);  // the card has it
  plot_->setMouseTracking(true);
  plot_->setInteractions(QCP::iRangeDrag);
  QCPAxisRect* rect = plot_->axisRect();
  rect->setRangeDrag(Qt::Horizontal);
  rect->setAutoMargins(QCP::msNone);
  plot_->layer(QStringLiteral("overlay"))->setMode(QCPLayer::lmBuffered);
  new PaintedItem(rect, QStringLiteral("background"), 0, [this](QCPPainter* p) { drawShade(p); });
  new PaintedItem(rect, QStringLiteral("main"), 1, [this](QCPPainter* p) { drawBelow(p); });
  new PaintedItem(rect, QStringLiteral("axes"), 8, [this](QCPPainter* p) { drawAbove(p); });
  new PaintedItem(rect, QStringLiteral("overlay"), 6, [this](QCPPainter* p) {
    drawMeasure(p);
    drawCursor(p);
  });
}

bool PlotScene::hasData() const {
  return std::any_of(series_.begin(), series_.end(), [](const PlotSeries& s) { return !s.data.empty() || !s.estimates.empty(); });
}

void PlotScene::setTheme(const Theme& theme, double fontScale) {
  theme_ = theme;
  font_ = interfaceFont(fontScale * 11 / 13);
  plot_->setBackground(QBrush(theme.plot));
  styleAxes(plot_->axisRect(), theme, font_);
  plot_->xAxis->grid()->setVisible(false);
  reserveMargins();
}

void PlotScene::setLogarithmic(bool on) { y_.logarithmic = on; }

void PlotScene::setXTitleShown(bool shown) {
  xTitleShown_ = shown;
  reserveMargins();
}

// Fixed, for the widest label there can be: a plot that shifts while it runs can't be read.
void PlotScene::reserveMargins() {
  const QFontMetrics metrics(font_);
  const int left = std::max(metrics.horizontalAdvance(QStringLiteral("888 MiB")), metrics.horizontalAdvance(QStringLiteral("88 888"))) + 12;
  const int bottom = metrics.height() * (xTitleShown_ ? 2 : 1) + (xTitleShown_ ? 12 : 8);
  plot_->axisRect()->setMargins(QMargins(left, 6, 14, bottom));
  plot_->xAxis->setLabel(xTitleShown_ ? x_.title : QString());
}

void PlotScene::replot(double lower, double upper, double newest) {
  newest_ = newest;
  const QSignalBlocker blocker(plot_->xAxis);  // the link tells the others, not the axis
  plot_->xAxis->setRange(lower, upper);
  setTicker(plot_->xAxis, x_, std::clamp(plot_->width() / 110, 2, 10));
  setTicker(plot_->yAxis, y_, std::clamp(plot_->height() / 38, 2, 6));
  const bool labels = hasData();  // an empty plot is a frame and a sentence
  for (QCPAxis* axis : {plot_->xAxis, plot_->yAxis}) axis->setTickLabels(labels);
  plot_->yAxis->grid()->setVisible(labels);
  prepare(lower, upper);
  scaleValues();
  plot_->replot();
}

void PlotScene::prepare(double lower, double upper) {
  prepared_.assign(series_.size(), {});
  const double pixels = std::max(plot_->axisRect()->width(), 50);
  for (size_t i = 0; i < series_.size(); ++i)
    if (series_[i].visible && series_[i].options.shape == PlotWidget::Shape::line) prepared_[i].line = prepareLine(series_[i].data, lower, upper, pixels);
  prepareStacks(lower, upper, pixels);
}

void PlotScene::prepareStacks(double lower, double upper, double pixels) {
  const PlotSeries* first = nullptr;
  for (const PlotSeries& s : series_)
    if (s.options.shape == PlotWidget::Shape::stack && (!first || s.data.size() > first->data.size())) first = &s;
  if (!first || first->data.empty()) return;
  const std::span<const double> x = first->data.x();
  size_t begin = first->data.lowerIndex(lower), end = std::min(first->data.lowerIndex(upper) + 1, x.size());
  if (begin > 0) --begin;
  const size_t stride = std::max<size_t>(1, static_cast<size_t>(static_cast<double>(end - begin) / pixels));
  std::vector<QPointF> below;
  for (size_t i = begin; i < end; i += stride) {
    const size_t at = std::min(i + stride, end) - 1;  // the last of each pixel, so that the newest is always there
    below.emplace_back(x[at], 0);
  }
  for (size_t s = 0; s < series_.size(); ++s) {
    const PlotSeries& series = series_[s];
    if (series.options.shape != PlotWidget::Shape::stack || !series.visible || !series.anything) continue;
    std::vector<QPointF> top = below;
    for (QPointF& p : top) {
      const size_t at = series.data.lowerIndex(p.x());
      if (at < series.data.size() && std::isfinite(series.data.y()[at])) p.ry() += series.data.y()[at];
    }
    prepared_[s].bottom = below;
    prepared_[s].top = top;
    below = std::move(top);
  }
}

void PlotScene::scaleValues() {
  std::vector<double> values;
  double smallest = std::numeric_limits<double>::infinity(), base = 0;
  const auto take = [&](double v) {
    values.push_back(v);
    if (v > 0) smallest = std::min(smallest, v);
  };
  bool estimatesOnly = true;
  const QCPRange x = plot_->xAxis->range();
  for (size_t i = 0; i < series_.size(); ++i) {
    if (!series_[i].visible) continue;
    for (const QPointF& p : prepared_[i].line.points) take(p.y());
    for (const auto& c : prepared_[i].line.band) take(c.high);
    for (const QPointF& p : prepared_[i].top) take(p.y());
    estimatesOnly &= series_[i].options.shape == PlotWidget::Shape::estimates;
    for (const Estimate& e : series_[i].estimates)
      if (e.x >= x.lower && e.x <= x.upper) take(std::max(e.y, e.high)), take(std::min(e.y, e.low));
  }
  double upper = niceUpper(values, &outliers_);
  if (estimatesOnly && std::isfinite(smallest)) {  // an estimate's change matters more than its distance from 0
    upper = *std::max_element(values.begin(), values.end());
    const double spread = std::max(upper - smallest, upper * 0.08);
    base = smallest - spread * 0.25 < upper * 0.25 ? 0 : smallest - spread * 0.25;
    upper += spread * 0.05;
  }
  if (y_.logarithmic) {
    const double low = std::isfinite(smallest) ? smallest : 0.1;
    plot_->yAxis->setRange(low / 1.15, std::max(upper, low * 2) * 1.6);
  } else {
    plot_->yAxis->setRange(base, base + (upper - base) * (markers_.empty() || !markerLabelsShown_ ? 1.12 : 1.28));  // room for the epoch labels
  }
}

void PlotScene::setShaded(double until, const QString& label) {
  shadedUntil_ = until;
  shadeLabel_ = label;
}

void PlotScene::drawShade(QCPPainter* painter) {
  if (shadedUntil_ <= 0) return;
  const QRectF area = plot_->axisRect()->rect();
  const double left = std::max(area.left(), plot_->xAxis->coordToPixel(0)), right = std::min(area.right(), plot_->xAxis->coordToPixel(shadedUntil_));
  if (right <= left) return;
  const QRectF shade(left, area.top(), right - left, area.height());
  painter->setPen(Qt::NoPen);
  painter->setBrush(theme_.window);
  painter->drawRect(shade);
  painter->setFont(font_);
  painter->setPen(theme_.textSecondary);
  if (QFontMetricsF(font_).horizontalAdvance(shadeLabel_) + 8 <= shade.width()) painter->drawText(shade, Qt::AlignCenter, shadeLabel_);
}

void PlotScene::drawBelow(QCPPainter* painter) {
  if (prepared_.size() != series_.size()) return;
  for (size_t i = 0; i < series_.size(); ++i) {
    const SeriesStyle& style = theme_.style(series_[i].options.slot);
    if (!prepared_[i].top.empty()) fillStackLayer(painter, axes(), prepared_[i].bottom, prepared_[i].top, style, series_[i].options.hatched);
    drawBand(painter, axes(), prepared_[i].line, style);
  }
  for (size_t i = 0; i < series_.size(); ++i)
    if (!prepared_[i].top.empty()) drawStackEdge(painter, axes(), prepared_[i].bottom, prepared_[i].top, theme_.style(series_[i].options.slot));
  for (size_t i = 0; i < series_.size(); ++i)
    if (!prepared_[i].line.points.empty()) {
      const SeriesStyle& style = theme_.style(series_[i].options.slot);
      drawLine(painter, axes(), prepared_[i].line, style.pen(), style);
    }
}

void PlotScene::drawAbove(QCPPainter* painter) {
  for (const PlotSeries& s : series_)
    if (s.visible) drawEstimates(painter, axes(), s.estimates, theme_.style(s.options.slot), theme_.plot, &newest_);
  drawEpochs(painter, axes(), markers_, theme_, font_, markerLabelsShown_);
  if (outliers_ > 0) drawOutliers(painter);
}

void PlotScene::drawOutliers(QCPPainter* painter) {
  const double limit = plot_->yAxis->range().upper, top = plot_->axisRect()->top() + 1;
  painter->setPen(Qt::NoPen);
  for (size_t i = 0; i < series_.size(); ++i) {
    painter->setBrush(theme_.style(series_[i].options.slot).line);
    const auto mark = [&](double x, double y) {
      if (!(y > limit)) return;
      const double at = plot_->xAxis->coordToPixel(x);
      painter->drawPolygon(QPolygonF{{at, top}, {at + 4, top + 6}, {at - 4, top + 6}});
    };
    for (const QPointF& p : prepared_[i].line.points) mark(p.x(), p.y());
    for (const auto& c : prepared_[i].line.band) mark(c.x, c.high);
  }
}

void PlotScene::showCursor(std::optional<double> x) {
  if (cursor_ == x) return;
  cursor_ = x;
  plot_->layer(QStringLiteral("overlay"))->replot();
}

void PlotScene::drawCursor(QCPPainter* painter) {
  if (!cursor_ || !plot_->xAxis->range().contains(*cursor_)) return;
  const QRect area = plot_->axisRect()->rect();
  const double at = std::round(plot_->xAxis->coordToPixel(*cursor_)) + 0.5;
  painter->setAntialiasing(false);
  painter->setPen(QPen(theme_.textSecondary, 1));
  painter->drawLine(QPointF(at, area.top()), QPointF(at, area.bottom()));
  painter->setAntialiasing(true);
  const double reach = std::max(0.5, plot_->xAxis->range().size() / std::max(area.width(), 1) * 2);
  for (size_t i = 0; i < series_.size(); ++i) {
    if (!series_[i].visible || series_[i].options.shape != PlotWidget::Shape::line) continue;
    const double y = series_[i].data.nearest(*cursor_, reach);
    if (std::isfinite(y)) drawMarker(painter, axes().pixel(*cursor_, y), theme_.style(series_[i].options.slot), 4, &theme_.plot);
  }
}

void PlotScene::showMeasure(std::optional<QCPRange> range, const QString& text) {
  measured_ = range;
  measureText_ = text;
  plot_->layer(QStringLiteral("overlay"))->replot();
}

void PlotScene::drawMeasure(QCPPainter* painter) {
  if (!measured_) return;
  const QRectF area = plot_->axisRect()->rect();
  const double left = plot_->xAxis->coordToPixel(measured_->lower), right = plot_->xAxis->coordToPixel(measured_->upper);
  painter->setPen(QPen(theme_.accent, 1));
  QColor shade = theme_.accent;
  shade.setAlphaF(0.12f);
  painter->setBrush(shade);
  painter->drawRect(QRectF(left, area.top(), right - left, area.height()));
  painter->setFont(font_);
  const QFontMetricsF metrics(font_);
  const QSizeF size = metrics.size(0, measureText_) + QSizeF(16, 10);
  QRectF box(QPointF(right + 8, area.top() + 6), size);
  if (box.right() > area.right()) box.moveRight(left - 8);
  if (box.left() < area.left()) box.moveLeft(area.left() + 4);
  painter->setPen(QPen(theme_.borderStrong, 1));
  painter->setBrush(theme_.raised);
  painter->drawRoundedRect(box, 4, 4);
  painter->setPen(theme_.text);
  painter->drawText(box.adjusted(8, 5, -8, -5), Qt::AlignLeft | Qt::AlignVCenter, measureText_);
}

size_t PlotScene::markerLabels() const {
  const QRectF area = plot_->axisRect()->rect();
  std::vector<MarkerInput> inputs;
  for (const ChartMarker& m : markers_)
    if (const double pixel = plot_->xAxis->coordToPixel(m.x); pixel >= area.left() && pixel <= area.right()) inputs.push_back({pixel, m.label});
  const QFontMetricsF metrics(font_);
  return layoutMarkers(inputs, area.left(), area.right(), [&](const QString& s) { return metrics.horizontalAdvance(s) + 10; }).size();
}

}  // namespace winnow
