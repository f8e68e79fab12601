// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/maps/triangle_map.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QPainter>
#include <QToolTip>
#include <algorithm>

namespace winnow {

TriangleMap::TriangleMap(QWidget* parent) : QWidget(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setBackgroundRole(QPalette::Base);
  setAutoFillBackground(true);
}

void TriangleMap::paintEmpty(QPainter& painter, const QString& text) const {
  painter.setPen(palette().color(QPalette::PlaceholderText));
  painter.drawText(rect().adjusted(12, 10, -12, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, text);
}

void TriangleMap::choose(int row, int column) {
  row_ = std::clamp(row, 0, rows() - 1);
  column_ = std::clamp(column, 0, row_);
  describeChosen({});
  update();
  Q_EMIT cellChosen(describe(row_, column_));
}

void TriangleMap::mousePressEvent(QMouseEvent* event) {
  if (const auto hit = at(event->position().toPoint())) choose(hit->first, hit->second);
}

void TriangleMap::keyPressEvent(QKeyEvent* event) {
  if (rows() == 0) return QWidget::keyPressEvent(event);
  switch (event->key()) {
    case Qt::Key_Left: return choose(row_, column_ - 1);
    case Qt::Key_Right: return choose(row_, column_ + 1);
    case Qt::Key_Up: return choose(row_ - 1, column_);
    case Qt::Key_Down: return choose(row_ + 1, column_);
    case Qt::Key_Home: return choose(row_, 0);
    case Qt::Key_End: return choose(row_, row_);
    default: QWidget::keyPressEvent(event);
  }
}

void TriangleMap::focusInEvent(QFocusEvent* event) {
  QWidget::focusInEvent(event);
  if (!anyChosen() && rows() > 0 && event->reason() != Qt::MouseFocusReason) choose(rows() - 1, 0);
  update();
}

void TriangleMap::focusOutEvent(QFocusEvent* event) {
  QWidget::focusOutEvent(event);
  update();
}

bool TriangleMap::event(QEvent* event) {
  if (event->type() != QEvent::ToolTip) return QWidget::event(event);
  auto* help = static_cast<QHelpEvent*>(event);
  if (const auto hit = at(help->pos())) QToolTip::showText(help->globalPos(), describe(hit->first, hit->second), this);
  else QToolTip::hideText();
  return true;
}

}  // namespace winnow
