// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/legend.h"

#include <QMouseEvent>
#include <QPainter>
#include <algorithm>

namespace winnow {

QBrush hatchBrush(const SeriesStyle& style);                                                                      // drawing.cpp
void drawMarker(QPainter* painter, const QPointF& at, const SeriesStyle& style, double radius, const QColor* fill);  // drawing.cpp

namespace {
constexpr int swatchWidth = 16, padding = 6, spacing = 4;
}

LegendEntry::LegendEntry(const QString& name, const SeriesStyle& style, bool area, bool hatched, QWidget* parent)
    : QCheckBox(name, parent), style_(style), area_(area), hatched_(hatched) {
  setChecked(true);
  setCursor(Qt::PointingHandCursor);
  setAccessibleName(name);
  setToolTip(tr("Show or hide %1. Alt+click: show only this one.").arg(name));
}

void LegendEntry::setStyleColors(const Theme& theme, const SeriesStyle& style) {
  style_ = style;
  text_ = theme.text;
  secondary_ = theme.textSecondary;
  accent_ = theme.accent;
  update();
}

void LegendEntry::setValue(const QString& value) {
  if (value == value_) return;
  value_ = value;
  setAccessibleDescription(value);
  const int width = fontMetrics().horizontalAdvance(value);
  if (width > valueWidth_) {
    valueWidth_ = width;
    updateGeometry();
    if (auto* legend = qobject_cast<SeriesLegend*>(parentWidget())) legend->refresh();
  }
  update();
}

void LegendEntry::forgetValue() {
  value_.clear();
  valueWidth_ = 0;
  updateGeometry();
  update();
}

QSize LegendEntry::sizeHint() const {
  const int value = valueWidth_ > 0 ? valueWidth_ + padding : 0;
  return {padding * 3 + swatchWidth + fontMetrics().horizontalAdvance(text()) + value, std::max(24, fontMetrics().height() + 6)};
}

void LegendEntry::paintSwatch(QPainter& painter, const QRectF& box) const {
  if (area_) {
    const QRectF block = QRectF(box.left() + 1, box.center().y() - 5, box.width() - 2, 10);
    painter.setPen(Qt::NoPen);
    painter.setBrush(hatched_ ? hatchBrush(style_) : QBrush(style_.band));
    painter.drawRect(block);
    painter.setPen(QPen(style_.line, 2));
    painter.drawLine(block.topLeft(), block.topRight());
    return;
  }
  painter.setPen(style_.pen(2));
  painter.drawLine(QPointF(box.left(), box.center().y()), QPointF(box.right(), box.center().y()));
  if (style_.marker != MarkerShape::none) drawMarker(&painter, box.center(), style_, 3, nullptr);
}

void LegendEntry::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  if (hasFocus()) {
    painter.setPen(QPen(accent_, 2));
    painter.drawRoundedRect(QRectF(rect()).adjusted(1, 1, -1, -1), 5, 5);
  }
  painter.setOpacity(isChecked() ? 1 : 0.38);
  paintSwatch(painter, QRectF(padding, 0, swatchWidth, height()));
  painter.setFont(font());
  painter.setPen(secondary_);
  const int left = padding * 2 + swatchWidth, nameWidth = fontMetrics().horizontalAdvance(text());
  QFont nameFont = font();
  nameFont.setStrikeOut(!isChecked());
  painter.setFont(nameFont);
  painter.drawText(QRect(left, 0, nameWidth + 2, height()), Qt::AlignVCenter | Qt::AlignLeft, text());
  painter.setFont(font());
  painter.setPen(text_);
  painter.drawText(QRect(left + nameWidth + padding, 0, valueWidth_, height()), Qt::AlignVCenter | Qt::AlignRight, value_);
}

void LegendEntry::mouseReleaseEvent(QMouseEvent* event) {
  if (event->modifiers() & Qt::AltModifier) {
    setDown(false);
    Q_EMIT soloRequested();
    event->accept();
    return;
  }
  QCheckBox::mouseReleaseEvent(event);
}

SeriesLegend::SeriesLegend(QWidget* parent) : QWidget(parent) {
  QSizePolicy policy(QSizePolicy::Preferred, QSizePolicy::Minimum);
  policy.setHeightForWidth(true);
  setSizePolicy(policy);
}

void SeriesLegend::add(LegendEntry* entry) {
  entries_.push_back(entry);
  refresh();
}

void SeriesLegend::refresh() {
  updateGeometry();
  arrange(width(), true);
}

int SeriesLegend::arrange(int width, bool move) const {
  int x = 0, y = 0, row = 0;
  for (LegendEntry* entry : entries_) {
    if (entry->isHidden()) continue;
    const QSize size = entry->sizeHint();
    if (x > 0 && x + size.width() > width) {
      x = 0;
      y += row;
      row = 0;
    }
    if (move) entry->setGeometry(QRect(QPoint(x, y), size));
    x += size.width() + spacing;
    row = std::max(row, size.height());
  }
  return y + row;
}

int SeriesLegend::widthOfOneRow() const {
  int width = 0;
  for (const LegendEntry* entry : entries_)
    if (!entry->isHidden()) width += entry->sizeHint().width() + spacing;
  return std::max(0, width - spacing);
}

int SeriesLegend::heightForWidth(int width) const { return arrange(width, false); }
QSize SeriesLegend::sizeHint() const { return {widthOfOneRow(), arrange(widthOfOneRow() + 1, false)}; }
QSize SeriesLegend::minimumSizeHint() const { return {60, arrange(std::max(width(), 60), false)}; }
void SeriesLegend::resizeEvent(QResizeEvent*) { refresh(); }

}  // namespace winnow
