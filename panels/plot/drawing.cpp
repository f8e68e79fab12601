// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/drawing.h"

#include <algorithm>
#include <cmath>

#include "experiments/format.h"
#include "panels/plot/marker_layout.h"

namespace winnow {
namespace {

// Tick labels in the axis' unit with no more decimals than the step needs.
class UnitTicker : public QCPAxisTicker {
 public:
  UnitTicker(QString unit, int count, bool whole) : unit_(std::move(unit)), whole_(whole) { setTickCount(count); }

 protected:
  double getTickStep(const QCPRange& range) override {
    if (unit_ == QLatin1String("B")) {  // round steps of the unit that suits the range: 5 MiB, 0.5 GiB
      factor_ = std::pow(1024.0, std::clamp(std::floor(std::log2(std::max(range.upper, 1.0)) / 10), 0.0, 4.0));
      step_ = QCPAxisTicker::getTickStep(QCPRange(range.lower / factor_, range.upper / factor_)) * factor_;
      if (factor_ == 1) step_ = std::max(1.0, std::round(step_));
    } else {
      step_ = QCPAxisTicker::getTickStep(range);
      if (whole_) step_ = std::max(1.0, step_);
    }
    return step_;
  }
  QString getTickLabel(double tick, const QLocale&, QChar, int) override {
    const Format format;
    if (std::fabs(tick) < std::fabs(step_) * 1e-6) tick = 0;
    if (unit_ == QLatin1String("B")) {
      static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
      if (tick == 0) return QStringLiteral("0");
      return format.fixed(tick / factor_, decimalsOf(step_ / factor_)) + Format::thinSpace + QLatin1String(units[std::lround(std::log2(factor_) / 10)]);
    }
    return format.fixed(tick, decimalsOf(step_));
  }

 private:
  // As few as tell two ticks apart.
  static int decimalsOf(double step) {
    int decimals = 0;
    while (decimals < 6 && std::fabs(step * std::pow(10, decimals) - std::round(step * std::pow(10, decimals))) > 1e-6 * step * std::pow(10, decimals)) ++decimals;
    return decimals;
  }
  QString unit_;
  bool whole_;
  double step_ = 1, factor_ = 1;
};

class LogTicker : public QCPAxisTickerLog {
 public:
  explicit LogTicker(QString unit) : unit_(std::move(unit)) {}

 protected:
  QVector<double> createTickVector(double step, const QCPRange& range) override {
    QVector<double> ticks = QCPAxisTickerLog::createTickVector(step, range);
    QVector<double> inside;
    for (const double t : ticks)
      if (t >= range.lower && t <= range.upper) inside << t;
    if (inside.size() >= 2) return ticks;
    ticks.clear();  // less than two decades: 1 2 5 steps
    for (double decade = std::pow(10, std::floor(std::log10(std::max(range.lower, 1e-300)))); decade <= range.upper; decade *= 10)
      for (const double m : {1.0, 2.0, 5.0}) ticks << decade * m;
    return ticks;
  }
  QString getTickLabel(double tick, const QLocale&, QChar, int) override {
    return unit_ == QLatin1String("B") ? Format().bytes(tick) : Format().significant(tick, 2);
  }

 private:
  QString unit_;
};

class CategoryTicker : public QCPAxisTicker {
 public:
  explicit CategoryTicker(QStringList names) : names_(std::move(names)) {}

 protected:
  double getTickStep(const QCPRange&) override { return 1; }
  int getSubTickCount(double) override { return 0; }
  QString getTickLabel(double tick, const QLocale&, QChar, int) override {
    const auto index = std::llround(tick);
    return index >= 0 && index < names_.size() ? names_[static_cast<qsizetype>(index)] : QString();
  }

 private:
  QStringList names_;
};

bool vectorized(const QCPPainter* painter) { return painter->modes().testFlag(QCPPainter::pmVectorized); }

// Single segments on screen: the stroker of thick polylines costs a hundred times more. In a file one path is smaller.
void strokePolyline(QCPPainter* painter, const QPolygonF& points) {
  if (vectorized(painter) || painter->pen().style() != Qt::SolidLine) {
    painter->drawPolyline(points);
    return;
  }
  for (qsizetype i = 1; i < points.size(); ++i) painter->drawLine(points[i - 1], points[i]);
}

}  // namespace

PaintedItem::PaintedItem(QCPAxisRect* rect, const QString& layer, int margin, Paint paint)
    : QCPLayerable(rect->parentPlot(), layer), rect_(rect), margin_(margin), paint_(std::move(paint)) {}

PreparedLine prepareLine(const BucketSeries& series, double lower, double upper, double pixels) {
  PreparedLine line;
  const int level = BucketSeries::levelFor((upper - lower) / std::max(pixels, 1.0));
  if (level == 0) {
    const size_t begin = series.lowerIndex(lower), end = std::min(series.lowerIndex(upper) + 1, series.size());
    for (size_t i = begin > 0 ? begin - 1 : 0; i < end; ++i) line.points.emplace_back(series.x()[i], series.y()[i]);
    line.sparse = !line.points.empty() && pixels / static_cast<double>(line.points.size()) >= 10;
    return line;
  }
  const double half = std::exp2(level) / 2;
  for (const BucketSeries::Bucket& b : series.buckets(level, lower, upper)) {
    line.points.emplace_back(b.x, b.p50);
    if (b.n > 1) line.band.push_back({b.x, half, b.p5, b.p95, b.max});
  }
  return line;
}

void drawBand(QCPPainter* painter, const AxisPair& axes, const PreparedLine& line, const SeriesStyle& style) {
  painter->setPen(Qt::NoPen);
  painter->setBrush(style.band);
  painter->setAntialiasing(false);
  for (const auto& c : line.band) {
    const QPointF a = axes.pixel(c.x - c.halfWidth, c.high), b = axes.pixel(c.x + c.halfWidth, c.low);
    const double left = std::round(a.x()), right = std::round(b.x());
    painter->drawRect(QRectF(left, a.y(), std::max(1.0, right - left), std::max(1.0, b.y() - a.y())));
  }
  painter->setBrush(style.band.darker(112));  // the slowest of each bucket, faint
  for (const auto& c : line.band)
    if (c.max > c.high) painter->drawRect(QRectF(axes.pixel(c.x, c.max) - QPointF(0.75, 0.75), QSizeF(1.5, 1.5)));
  painter->setAntialiasing(true);
}

void drawLine(QCPPainter* painter, const AxisPair& axes, const PreparedLine& line, const QPen& pen, const SeriesStyle& style) {
  painter->setPen(pen);
  painter->setBrush(Qt::NoBrush);
  QPolygonF run;
  for (const QPointF& p : line.points) {
    if (std::isfinite(p.y())) {
      run << axes.pixel(p.x(), p.y());
      continue;
    }
    strokePolyline(painter, run);
    run.clear();
  }
  strokePolyline(painter, run);
  if (!line.sparse) return;
  for (const QPointF& p : line.points)
    if (std::isfinite(p.y())) drawMarker(painter, axes.pixel(p.x(), p.y()), style, 2.6);
}

QBrush hatchBrush(const SeriesStyle& style) {
  QPixmap tile(8, 8);
  tile.fill(style.band);
  QPainter painter(&tile);
  painter.setRenderHint(QPainter::Antialiasing);
  QColor stripe = style.line;
  stripe.setAlphaF(0.45f);
  painter.setPen(QPen(stripe, 1.2));
  for (const int shift : {-8, 0, 8}) painter.drawLine(shift - 1, 9, shift + 9, -1);
  return QBrush(tile);
}

// Memory holds until it changes: steps, not slopes.
static QPolygonF stepped(const AxisPair& axes, std::span<const QPointF> from) {
  QPolygonF out;
  for (size_t i = 0; i < from.size(); ++i) {
    const QPointF p = axes.pixel(from[i].x(), from[i].y());
    if (i > 0) out << QPointF(p.x(), out.last().y());
    out << p;
  }
  return out;
}

void fillStackLayer(QCPPainter* painter, const AxisPair& axes, std::span<const QPointF> bottom, std::span<const QPointF> top, const SeriesStyle& style,
                    bool hatched) {
  if (top.empty()) return;
  QPolygonF area = stepped(axes, top);
  const QPolygonF lower = stepped(axes, bottom);
  std::for_each(lower.crbegin(), lower.crend(), [&](const QPointF& p) { area << p; });
  painter->setAntialiasing(false);
  painter->setPen(Qt::NoPen);
  painter->setBrush(style.band);
  painter->drawPolygon(area);
  if (hatched) {
    QColor stripe = style.line;
    stripe.setAlphaF(0.45f);
    painter->setBrush(vectorized(painter) ? QBrush(stripe, Qt::BDiagPattern) : hatchBrush(style));
    painter->drawPolygon(area);
  }
  painter->setAntialiasing(true);
}

void drawStackEdge(QCPPainter* painter, const AxisPair& axes, std::span<const QPointF> bottom, std::span<const QPointF> top, const SeriesStyle& style) {
  painter->setAntialiasing(false);
  painter->setPen(QPen(style.line, 1.4));
  painter->setBrush(Qt::NoBrush);
  for (size_t first = 0; first < top.size();) {  // where there is nothing of it, there is no line
    size_t last = first;
    while (last < top.size() && top[last].y() > bottom[last].y()) ++last;
    if (last > first) strokePolyline(painter, stepped(axes, top.subspan(first, std::min(last + 1, top.size()) - first)));
    first = last + 1;
  }
  painter->setAntialiasing(true);
}

void drawMarker(QPainter* painter, const QPointF& at, const SeriesStyle& style, double radius, const QColor* fill) {
  painter->save();
  painter->setPen(QPen(style.line, 1.4));
  painter->setBrush(fill ? *fill : style.line);
  const double r = radius;
  const auto cross = [&](double dx, double dy) { painter->drawLine(at - QPointF(dx, dy), at + QPointF(dx, dy)); };
  switch (style.marker) {
    case MarkerShape::none:
    case MarkerShape::circle: painter->drawEllipse(at, r, r); break;
    case MarkerShape::square: painter->drawRect(QRectF(at.x() - r, at.y() - r, 2 * r, 2 * r)); break;
    case MarkerShape::triangle: painter->drawPolygon(QPolygonF{at + QPointF(0, -r * 1.2), at + QPointF(r * 1.1, r), at + QPointF(-r * 1.1, r)}); break;
    case MarkerShape::diamond: painter->drawPolygon(QPolygonF{at + QPointF(0, -r * 1.3), at + QPointF(r * 1.3, 0), at + QPointF(0, r * 1.3), at - QPointF(r * 1.3, 0)}); break;
    case MarkerShape::star: cross(r, 0); [[fallthrough]];
    case MarkerShape::cross: cross(r, r), cross(r, -r); break;
    case MarkerShape::plus: cross(r * 1.2, 0), cross(0, r * 1.2); break;
  }
  painter->restore();
}

void drawEstimates(QCPPainter* painter, const AxisPair& axes, std::span<const Estimate> estimates, const SeriesStyle& style, const QColor& background,
                   const double* holdUntil) {
  QPen pen = style.pen();
  painter->setBrush(Qt::NoBrush);
  for (size_t i = 0; holdUntil && i < estimates.size(); ++i) {
    const QPointF a = axes.pixel(estimates[i].x, estimates[i].y);
    const bool last = i + 1 == estimates.size();
    const QPointF b = last ? axes.pixel(std::max(*holdUntil, estimates[i].x), estimates[i].y) : axes.pixel(estimates[i + 1].x, estimates[i + 1].y);
    pen.setStyle(estimates[i].preliminary ? Qt::DotLine : Qt::SolidLine);
    painter->setPen(pen);
    painter->drawLine(a, QPointF(b.x(), a.y()));
    if (!last) painter->drawLine(QPointF(b.x(), a.y()), b);
  }
  pen.setStyle(Qt::SolidLine);
  for (const Estimate& e : estimates) {
    if (!std::isfinite(e.y)) continue;
    if (e.low < e.high) {
      const QPointF low = axes.pixel(e.x, e.low), high = axes.pixel(e.x, e.high);
      painter->setPen(pen);
      painter->drawLine(low, high);
      for (const QPointF& end : {low, high}) painter->drawLine(end - QPointF(3, 0), end + QPointF(3, 0));
    }
    drawMarker(painter, axes.pixel(e.x, e.y), style, 3.6, e.preliminary ? &background : nullptr);
  }
}

void drawEpochs(QCPPainter* painter, const AxisPair& axes, std::span<const ChartMarker> markers, const Theme& theme, const QFont& font, bool labels) {
  const QRectF area = axes.x->axisRect()->rect();
  std::vector<MarkerInput> inputs;
  for (const ChartMarker& m : markers)
    if (const double pixel = axes.x->coordToPixel(m.x); pixel >= area.left() - 0.5 && pixel <= area.right() + 0.5) inputs.push_back({pixel, m.label});
  std::stable_sort(inputs.begin(), inputs.end(), [](const MarkerInput& a, const MarkerInput& b) { return a.pixel < b.pixel; });
  painter->setAntialiasing(false);
  QPen pen(theme.borderStrong, 1);
  pen.setDashPattern({3, 3});
  painter->setPen(pen);
  for (const MarkerInput& m : inputs) painter->drawLine(QPointF(std::round(m.pixel), area.top()), QPointF(std::round(m.pixel), area.bottom()));
  painter->setAntialiasing(true);
  if (!labels) return;
  const QFontMetricsF metrics(font);
  painter->setFont(font);
  for (const MarkerGroup& g : layoutMarkers(inputs, area.left(), area.right(), [&](const QString& s) { return metrics.horizontalAdvance(s) + 10; })) {
    if (g.label.isEmpty()) continue;
    const QRectF box(g.left, area.top() + 2, g.width, metrics.height() + 3);
    painter->setPen(QPen(theme.border, 1));
    painter->setBrush(theme.window);
    painter->drawRoundedRect(box, 3, 3);
    painter->setPen(theme.text);
    painter->drawText(box, Qt::AlignCenter, g.label);
  }
}

double niceUpper(std::vector<double> maxima, int* beyond) {
  std::erase_if(maxima, [](double v) { return !std::isfinite(v); });
  *beyond = 0;
  if (maxima.empty()) return 1;
  std::sort(maxima.begin(), maxima.end());
  const double most = maxima[static_cast<size_t>(static_cast<double>(maxima.size() - 1) * 0.98)];
  double upper = maxima.back();
  if (maxima.size() >= 20 && most > 0 && upper > 2.5 * most) {
    upper = 1.5 * most;
    *beyond = static_cast<int>(maxima.end() - std::upper_bound(maxima.begin(), maxima.end(), upper));
  }
  return upper > 0 ? upper : 1;
}

void styleAxes(QCPAxisRect* rect, const Theme& theme, const QFont& font) {
  for (QCPAxis* axis : rect->axes()) {
    axis->setBasePen(axis->axisType() == QCPAxis::atBottom ? QPen(theme.grid, 1) : QPen(Qt::NoPen));
    axis->setTickPen(Qt::NoPen);
    axis->setSubTickPen(Qt::NoPen);
    axis->setTickLabelColor(theme.textSecondary);
    axis->setLabelColor(theme.textSecondary);
    axis->setTickLabelFont(font);
    axis->setLabelFont(font);
    axis->setTickLengthIn(0);
    axis->setTickLabelPadding(4);
    axis->setLabelPadding(4);
    axis->grid()->setPen(QPen(theme.grid, 1));
    axis->grid()->setZeroLinePen(QPen(theme.grid, 1));
    axis->grid()->setSubGridVisible(false);
    axis->grid()->setAntialiased(false);
    axis->setSelectableParts(QCPAxis::spNone);
  }
  rect->setBackground(QBrush(Qt::NoBrush));
}

void setTicker(QCPAxis* axis, const ChartAxis& description, int approximateCount) {
  axis->setScaleType(description.logarithmic ? QCPAxis::stLogarithmic : QCPAxis::stLinear);
  if (!description.categories.isEmpty())
    axis->setTicker(QSharedPointer<CategoryTicker>::create(description.categories));
  else if (description.logarithmic)
    axis->setTicker(QSharedPointer<LogTicker>::create(description.unit));
  else
    axis->setTicker(QSharedPointer<UnitTicker>::create(description.unit, approximateCount, description.unit == QLatin1String("token")));
}

}  // namespace winnow
