// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/maps/head_cells.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QScrollBar>
#include <QToolTip>
#include <algorithm>

namespace winnow {

HeadCells::HeadCells(QWidget* parent) : QAbstractScrollArea(parent) {
  setFocusPolicy(Qt::StrongFocus);
  viewport()->setBackgroundRole(QPalette::Base);
}

QColor HeadCells::frameColour() const { return hasFocus() ? theme_.accent : theme_.text; }

QRect HeadCells::cell(int layer, int head) const {
  return {left_ + head * cellWidth_ - horizontalScrollBar()->value(), top_ + layer * cellHeight_ - verticalScrollBar()->value(), cellWidth_, cellHeight_};
}

std::pair<int, int> HeadCells::at(const QPoint& point) const {
  constexpr std::pair none(-1, -1);
  const auto [layers, heads] = extent();
  if (point.y() < top_ || point.y() >= viewport()->height() - bottom_) return none;
  const int layer = (point.y() - top_ + verticalScrollBar()->value()) / cellHeight_;
  if (layer >= layers) return none;
  if (point.x() < left_) return firstHead() < 0 ? std::pair(layer, -1) : none;
  const int head = (point.x() - left_ + horizontalScrollBar()->value()) / cellWidth_;
  return head < heads ? std::pair(layer, head) : none;
}

void HeadCells::choose(int layer, int head) {
  const auto [layers, heads] = extent();
  if (layers == 0) return;
  layer_ = std::clamp(layer, 0, layers - 1);
  head_ = std::clamp(head, firstHead(), heads - 1);
  QScrollBar *down = verticalScrollBar(), *across = horizontalScrollBar();
  const auto show = [](QScrollBar* bar, int first, int last) { bar->setValue(std::max(std::min(bar->value(), first), std::min(first, last))); };
  show(down, layer_ * cellHeight_, top_ + (layer_ + 1) * cellHeight_ + bottom_ - viewport()->height());
  if (head_ >= 0) show(across, head_ * cellWidth_, left_ + (head_ + 1) * cellWidth_ - viewport()->width());
  setAccessibleDescription(describe(layer_, head_));
  viewport()->update();
  told(layer_, head_);
}

void HeadCells::resizeEvent(QResizeEvent* event) {
  QAbstractScrollArea::resizeEvent(event);
  measure();
}

void HeadCells::changeEvent(QEvent* event) {
  QAbstractScrollArea::changeEvent(event);
  if (event->type() == QEvent::FontChange) measure();
}

void HeadCells::mousePressEvent(QMouseEvent* event) {
  if (const auto [layer, head] = at(event->position().toPoint()); layer >= 0) choose(layer, head);
}

void HeadCells::keyPressEvent(QKeyEvent* event) {
  const int page = verticalScrollBar()->pageStep() / cellHeight_;
  switch (event->key()) {
    case Qt::Key_Left: return choose(layer_, head_ - 1);
    case Qt::Key_Right: return choose(layer_, head_ + 1);
    case Qt::Key_Up: return choose(layer_ - 1, head_);
    case Qt::Key_Down: return choose(layer_ + 1, head_);
    case Qt::Key_PageUp: return choose(layer_ - page, head_);
    case Qt::Key_PageDown: return choose(layer_ + page, head_);
    case Qt::Key_Home: return choose(layer_, firstHead());
    case Qt::Key_End: return choose(layer_, extent().second - 1);
    default: QAbstractScrollArea::keyPressEvent(event);
  }
}

void HeadCells::focusInEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusInEvent(event);
  if (layer_ < 0 && event->reason() != Qt::MouseFocusReason) choose(0, firstHead());
  viewport()->update();
}

void HeadCells::focusOutEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusOutEvent(event);
  viewport()->update();
}

bool HeadCells::viewportEvent(QEvent* event) {
  if (event->type() != QEvent::ToolTip) return QAbstractScrollArea::viewportEvent(event);
  auto* help = static_cast<QHelpEvent*>(event);
  if (const auto [layer, head] = at(help->pos()); layer >= 0) QToolTip::showText(help->globalPos(), describe(layer, head), this);
  else QToolTip::hideText();
  return true;
}

}  // namespace winnow
