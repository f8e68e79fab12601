// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/effect_scatter.h"

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QToolTip>
#include <algorithm>
#include <cmath>

#include "experiments/format.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {
constexpr double kReach = 12;  // px from a point
constexpr double kRadius = 4.5;

// One, two or five times a power of ten, so that some `count` of them fill the range.
double niceStep(double range, int count) {
  const double raw = range / count, power = std::pow(10, std::floor(std::log10(raw)));
  return power * (raw / power > 5 ? 10 : raw / power > 2 ? 5 : raw / power > 1 ? 2 : 1);
}

}  // namespace

EffectScatter::EffectScatter(QWidget* parent) : QWidget(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setMouseTracking(true);
  setProperty("card", true);
  setAttribute(Qt::WA_StyledBackground);
  setAccessibleName(tr("Attention against effect"));
}

void EffectScatter::setTheme(const Theme& theme) {
  theme_ = theme;
  update();
}

void EffectScatter::setPoints(std::vector<Point> points, double noiseFloor) {
  points_ = std::move(points);
  noise_ = noiseFloor;
  low_ = 0;
  high_ = right_ = 1e-6;
  for (const Point& point : points_) {
    low_ = std::min(low_, point.effect);
    high_ = std::max(high_, point.effect);
    right_ = std::max(right_, point.attention);
  }
  const double pad = (high_ - low_) * 0.08;
  high_ += pad;
  if (low_ < 0) low_ -= pad;
  right_ *= 1.08;
  update();
}

void EffectScatter::setEmptyText(const QString& sentence) {
  emptyText_ = sentence;
  update();
}

void EffectScatter::setChosen(int source) {
  chosen_ = source;
  const auto found = std::find_if(points_.begin(), points_.end(), [&](const Point& p) { return p.source == source; });
  setAccessibleDescription(found == points_.end() ? QString() : describe(*found));
  update();
}

QRectF EffectScatter::plot() const {
  const int left = fontMetrics().horizontalAdvance(QStringLiteral("−88.8")) + 34, bottom = 2 * fontMetrics().height() + 14;
  return QRectF(rect()).adjusted(left, 12, -16, -bottom);
}

QPointF EffectScatter::place(const Point& point) const {
  const QRectF area = plot();
  return {area.left() + area.width() * point.attention / right_, area.bottom() - area.height() * (point.effect - low_) / (high_ - low_)};
}

int EffectScatter::nearest(const QPointF& at) const {
  int best = -1;
  double reach = kReach;
  for (size_t i = 0; i < points_.size(); ++i) {
    const QPointF away = place(points_[i]) - at;
    const double distance = std::hypot(away.x(), away.y());
    if (distance > reach) continue;
    reach = distance;
    best = static_cast<int>(i);
  }
  return best;
}

QString EffectScatter::describe(const Point& point) const {
  return tr("Source %1: %2 of the attention, %3: %4")
      .arg(point.source + 1)
      .arg(Format().percent(point.attention), point.noise ? tr("no effect beyond noise") : Format().nats(point.effect), point.name);
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void EffectScatter::paintAxes(QPainter& painter) const {
  const QRectF area = plot();
  const QFontMetricsF metrics(painter.font());
  const auto y = [&](double effect) { return area.bottom() - area.height() * (effect - low_) / (high_ - low_); };
  const double bandTop = std::max(area.top(), y(noise_)), bandBottom = std::min(area.bottom(), y(-noise_));
  if (bandBottom - bandTop > 0.5) painter.fillRect(QRectF(area.left(), bandTop, area.width(), bandBottom - bandTop), theme_.grid);
  painter.setPen(QPen(theme_.borderStrong, 1));
  painter.drawLine(area.bottomLeft(), area.topLeft());
  painter.drawLine(QPointF(area.left(), y(0)), QPointF(area.right(), y(0)));
  painter.setPen(theme_.textSecondary);
  const double up = niceStep(high_ - low_, area.height() > 160 ? 5 : 3);
  for (double at = std::ceil(low_ / up) * up; at <= high_; at += up) {
    painter.drawLine(QPointF(area.left() - 3, y(at)), QPointF(area.left(), y(at)));
    painter.drawText(QRectF(area.left() - 70, y(at) - metrics.height() / 2, 63, metrics.height()), Qt::AlignRight | Qt::AlignVCenter,
                     QString::number(std::fabs(at) < up / 2 ? 0 : at, 'g', 3));
  }
  const double along = niceStep(right_, 5);
  for (double share = along; share <= right_; share += along) {
    const double x = area.left() + area.width() * share / right_;
    painter.drawLine(QPointF(x, area.bottom()), QPointF(x, area.bottom() + 3));
    painter.drawText(QRectF(x - 50, area.bottom() + 4, 100, metrics.height()), Qt::AlignCenter,
                     QString::number(100 * share, 'g', 3) + Format::thinSpace + QLatin1Char('%'));
  }
  painter.drawText(QRectF(area.left(), area.bottom() + metrics.height() + 5, area.width(), metrics.height()), Qt::AlignCenter,
                   tr("share of the attention"));
  painter.save();
  painter.translate(metrics.height(), area.center().y());
  painter.rotate(-90);
  painter.drawText(QRectF(-area.height() / 2, -metrics.height() / 2 - 2, area.height(), metrics.height()), Qt::AlignCenter,
                   tr("effect (nat)"));
  painter.restore();
}

void EffectScatter::paintPoints(QPainter& painter) const {
  const QRectF area = plot();
  const QFontMetricsF metrics(painter.font());
  for (const Point& point : points_) {
    const QPointF at = place(point);
    const bool marked = point.source == chosen_ || point.source == hovered_;
    painter.setPen(QPen(point.noise ? theme_.textSecondary : point.effect >= 0 ? theme_.worse : theme_.better, 1.4));
    painter.setBrush(point.noise ? theme_.surface : point.effect >= 0 ? theme_.attributionPlusStrong : theme_.attributionMinusStrong);
    if (point.effect >= 0 || point.noise) painter.drawEllipse(at, kRadius, kRadius);
    else painter.drawRect(QRectF(at.x() - kRadius, at.y() - kRadius, 2 * kRadius, 2 * kRadius));  // the sign is a shape too
    if (marked) {
      painter.setPen(QPen(theme_.text, 1.5));
      painter.setBrush(Qt::NoBrush);
      painter.drawEllipse(at, kRadius + 4, kRadius + 4);
    }
    const QString number = QString::number(point.source + 1);
    const double x = at.x() + kRadius + 4 + metrics.horizontalAdvance(number) > area.right()
                         ? at.x() - kRadius - 4 - metrics.horizontalAdvance(number)
                         : at.x() + kRadius + 4;
    painter.setPen(marked ? theme_.text : theme_.textSecondary);
    painter.drawText(QPointF(x, at.y() + metrics.ascent() / 2 - 1), number);
  }
}

void EffectScatter::paintEvent(QPaintEvent* event) {
  QWidget::paintEvent(event);
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  if (points_.empty()) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(rect().adjusted(14, 10, -14, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, emptyText_);
    return;
  }
  painter.setFont(scaledFont(font(), 0.9));
  paintAxes(painter);
  paintPoints(painter);
}

// ---- pointer and keyboard -----------------------------------------------------------------------------------------------

void EffectScatter::mouseMoveEvent(QMouseEvent* event) {
  const int index = nearest(event->position());
  const int source = index < 0 ? -1 : points_[static_cast<size_t>(index)].source;
  if (source == hovered_) return;
  hovered_ = source;
  if (index >= 0)
    QToolTip::showText(event->globalPosition().toPoint(), describe(points_[static_cast<size_t>(index)]).toHtmlEscaped(), this);
  else QToolTip::hideText();
  update();
  Q_EMIT sourceHovered(source);
}

void EffectScatter::mousePressEvent(QMouseEvent* event) {
  const int index = nearest(event->position());
  if (event->button() != Qt::LeftButton || index < 0) return;
  setChosen(points_[static_cast<size_t>(index)].source);
  Q_EMIT sourceChosen(chosen_);
}

void EffectScatter::leaveEvent(QEvent*) {
  if (hovered_ < 0) return;
  hovered_ = -1;
  update();
  Q_EMIT sourceHovered(-1);
}

void EffectScatter::keyPressEvent(QKeyEvent* event) {
  const bool forward = event->key() == Qt::Key_Right || event->key() == Qt::Key_Down;
  if (points_.empty() || (!forward && event->key() != Qt::Key_Left && event->key() != Qt::Key_Up)) return QWidget::keyPressEvent(event);
  // From the least attention to the most.
  std::vector<size_t> order(points_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [this](size_t a, size_t b) { return points_[a].attention < points_[b].attention; });
  const auto now = std::find_if(order.begin(), order.end(), [this](size_t i) { return points_[i].source == chosen_; });
  size_t next = forward ? 0 : order.size() - 1;
  if (now != order.end()) {
    const auto at = static_cast<size_t>(now - order.begin());
    next = forward ? std::min(at + 1, order.size() - 1) : at == 0 ? 0 : at - 1;
  }
  setChosen(points_[order[next]].source);
  Q_EMIT sourceChosen(chosen_);
}

}  // namespace winnow
