// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/bar_strip.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QPainter>
#include <QStyleOption>
#include <QToolTip>
#include <algorithm>
#include <cmath>

namespace winnow {

BarStrip::BarStrip(const QString& name, QWidget* parent) : QWidget(parent) {
  setProperty("card", true);
  setAttribute(Qt::WA_StyledBackground);
  setFocusPolicy(Qt::StrongFocus);
  setMouseTracking(true);
  setAccessibleName(name);
  setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
}

void BarStrip::setTheme(const Theme& theme) {
  theme_ = theme;
  update();
}

void BarStrip::clear(const QString& emptyText) {
  data_ = {};
  emptyText_ = emptyText;
  current_ = -1;
  setAccessibleDescription(emptyText);
  update();
}

void BarStrip::setData(BarStripData data) {
  data_ = std::move(data);
  largest_ = 0;
  for (const auto& bar : data_.bars)
    for (const double value : {bar.value, bar.high, bar.outline.value_or(0)})
      if (std::isfinite(value)) largest_ = std::max(largest_, value);
  current_ = std::min(current_, static_cast<int>(data_.bars.size()) - 1);
  setAccessibleDescription(current_ >= 0 ? data_.bars[static_cast<size_t>(current_)].told : data_.legend);
  update();
}

QRectF BarStrip::area() const {
  const double line = fontMetrics().height();
  return QRectF(rect()).adjusted(10, line + 8, -10, -(line + 8));
}

std::pair<double, double> BarStrip::span(int bar) const {
  const QRectF plot = area();
  double gaps = 0, before = 0;
  for (size_t i = 0; i < data_.bars.size(); ++i)
    if (data_.bars[i].apart) {
      ++gaps;
      if (static_cast<int>(i) <= bar) ++before;
    }
  const double width = plot.width() / (static_cast<double>(data_.bars.size()) + 0.6 * gaps);
  return {plot.left() + width * (bar + 0.6 * before), width};
}

int BarStrip::at(double x) const {
  for (int i = 0; i < static_cast<int>(data_.bars.size()); ++i)
    if (const auto [left, width] = span(i); x >= left && x < left + width) return i;
  return -1;
}

double BarStrip::heightOf(double value) const {
  if (!(largest_ > 0) || !(value > 0)) return 0;
  return data_.rootScale ? std::sqrt(value / largest_) : value / largest_;
}

void BarStrip::paintBars(QPainter& painter, const QRectF& plot) {
  const double bottom = plot.bottom();
  for (int i = 0; i < static_cast<int>(data_.bars.size()); ++i) {
    const auto& bar = data_.bars[static_cast<size_t>(i)];
    const auto [left, width] = span(i);
    const double inset = width > 5 ? std::min(3.0, width * 0.12) : 0;
    const auto box = [&](double value) {
      const double height = std::max(heightOf(value) * plot.height(), value > 0 ? 1.0 : 0.0);
      return QRectF(left + inset, bottom - height, width - 2 * inset, height);
    };
    if (i == current_) painter.fillRect(QRectF(left, plot.top(), width, plot.height()), theme_.hover);
    if (std::isnan(bar.value)) {
      painter.fillRect(QRectF(left + inset, bottom - 5, width - 2 * inset, 5), QBrush(theme_.borderStrong, Qt::BDiagPattern));
      continue;
    }
    painter.fillRect(box(bar.value), theme_.style(0).line);
    if (bar.outline && *bar.outline > 0) {
      painter.setPen(QPen(theme_.style(1).line, 1.5));
      const QRectF top = box(*bar.outline);
      painter.drawLine(top.topLeft(), top.topRight());
      if (width > 7) {
        painter.drawLine(top.topLeft(), top.bottomLeft());
        painter.drawLine(top.topRight(), top.bottomRight());
      }
    }
    if (bar.high > bar.low) {
      painter.setPen(QPen(theme_.text, 1.2));
      const double x = left + width / 2;
      painter.drawLine(QPointF(x, bottom - heightOf(bar.low) * plot.height()), QPointF(x, bottom - heightOf(bar.high) * plot.height()));
    }
  }
  painter.setPen(theme_.borderStrong);
  painter.drawLine(QPointF(plot.left(), bottom + 0.5), QPointF(plot.right(), bottom + 0.5));
}

void BarStrip::paintNames(QPainter& painter, const QRectF& plot) {
  painter.setPen(theme_.textSecondary);
  const QRectF line(plot.left(), plot.bottom() + 3, plot.width(), fontMetrics().height());
  painter.drawText(line, Qt::AlignLeft, data_.low);
  painter.drawText(line, Qt::AlignRight, data_.high);
  double free = plot.left() - 8;
  for (int i = 0; i < static_cast<int>(data_.bars.size()); ++i) {
    const QString& name = data_.bars[static_cast<size_t>(i)].name;
    const auto [left, width] = span(i);
    const double text = fontMetrics().horizontalAdvance(name), at = left + (width - text) / 2;
    if (name.isEmpty() || at < free + 6) continue;  // names that would touch are left out
    painter.setPen(i == current_ ? theme_.text : theme_.textSecondary);
    painter.drawText(QPointF(at, line.top() + fontMetrics().ascent()), name);
    free = at + text;
  }
}

void BarStrip::paintHead(QPainter& painter, const QRectF& plot) {
  const QRectF line(plot.left(), 5, plot.width(), fontMetrics().height());
  painter.setPen(theme_.textSecondary);
  if (current_ >= 0 && (hasFocus() || underMouse())) {
    painter.setPen(theme_.text);
    painter.drawText(line, Qt::AlignLeft, fontMetrics().elidedText(data_.bars[static_cast<size_t>(current_)].told, Qt::ElideRight, static_cast<int>(line.width())));
    return;
  }
  double x = line.left();
  const auto entry = [&](const QString& text, bool outline) {
    if (text.isEmpty()) return;
    const QRectF key(x, line.center().y() - 4, 10, 8);
    if (outline) {
      painter.setPen(QPen(theme_.style(1).line, 1.5));
      painter.drawRect(key.adjusted(0.5, 0.5, -0.5, -0.5));
    } else {
      painter.fillRect(key, theme_.style(0).line);
    }
    painter.setPen(theme_.textSecondary);
    painter.drawText(QPointF(x + 15, line.top() + fontMetrics().ascent()),
                     fontMetrics().elidedText(text, Qt::ElideRight, static_cast<int>(line.right() - x - 15)));
    x += 15 + fontMetrics().horizontalAdvance(text) + 16;
  };
  entry(data_.legend, false);
  entry(data_.outlineLegend, true);
  if (x + fontMetrics().horizontalAdvance(data_.top) < line.right()) painter.drawText(line, Qt::AlignRight, data_.top);
}

void BarStrip::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  QStyleOption option;
  option.initFrom(this);
  style()->drawPrimitive(QStyle::PE_Widget, &option, &painter, this);
  if (data_.bars.empty()) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(rect().adjusted(14, 10, -14, -10), Qt::AlignCenter | Qt::TextWordWrap, emptyText_);
    return;
  }
  const QRectF plot = area();
  paintBars(painter, plot);
  paintNames(painter, plot);
  paintHead(painter, plot);
}

void BarStrip::moveTo(int bar) {
  if (bar == current_) return;
  current_ = bar;
  if (bar >= 0) setAccessibleDescription(data_.bars[static_cast<size_t>(bar)].told);
  update();
}

void BarStrip::mouseMoveEvent(QMouseEvent* event) { moveTo(at(event->position().x())); }

void BarStrip::mousePressEvent(QMouseEvent* event) {
  const int bar = at(event->position().x());
  if (event->button() == Qt::LeftButton && bar >= 0) Q_EMIT barChosen(bar);
}

void BarStrip::leaveEvent(QEvent*) {
  if (!hasFocus()) moveTo(-1);
  update();
}

void BarStrip::keyPressEvent(QKeyEvent* event) {
  const int last = static_cast<int>(data_.bars.size()) - 1;
  if (last < 0) return QWidget::keyPressEvent(event);
  switch (event->key()) {
    case Qt::Key_Left: return moveTo(std::max(0, current_ - 1));
    case Qt::Key_Right: return moveTo(std::min(last, current_ + 1));
    case Qt::Key_Home: return moveTo(0);
    case Qt::Key_End: return moveTo(last);
    case Qt::Key_Return:
    case Qt::Key_Enter:
    case Qt::Key_Space:
      if (current_ >= 0) Q_EMIT barChosen(current_);
      return;
    default: return QWidget::keyPressEvent(event);
  }
}

bool BarStrip::event(QEvent* event) {
  if (event->type() == QEvent::ToolTip) {
    auto* help = static_cast<QHelpEvent*>(event);
    const int bar = at(help->pos().x());
    if (bar < 0) QToolTip::hideText();
    else QToolTip::showText(help->globalPos(), data_.bars[static_cast<size_t>(bar)].told, this);
    return true;
  }
  return QWidget::event(event);
}

}  // namespace winnow
