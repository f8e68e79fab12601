// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attention/head_grid.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QPainter>
#include <QScrollBar>
#include <QToolTip>
#include <algorithm>

#include "experiments/format.h"
#include "panels/attention/attention_colours.h"

namespace winnow {
namespace {
constexpr int kSmallest = 22, kLargest = 96, kGap = 3;  // px
}

HeadGrid::HeadGrid(QWidget* parent) : QAbstractScrollArea(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setAccessibleName(tr("Heads"));
  viewport()->setBackgroundRole(QPalette::Base);
}

void HeadGrid::setTheme(const Theme& theme) {
  theme_ = theme;
  render();
}

void HeadGrid::clear(const QString& emptyText) {
  maps_ = {};
  pictures_.clear();
  layer_ = head_ = -1;
  emptyText_ = emptyText;
  setAccessibleDescription(emptyText);
  measure();
}

void HeadGrid::setMaps(const AttentionMaps& maps) {
  maps_ = maps;
  if (layer_ >= maps.layers || head_ >= maps.heads) layer_ = head_ = -1;
  measure();
  render();
  const int layer = std::max(layer_, 0), head = std::max(head_, 0);
  layer_ = head_ = -1;  // so that it is told
  choose(layer, head);
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

void HeadGrid::measure() {
  const QFontMetrics metrics = fontMetrics();
  names_ = metrics.horizontalAdvance(QStringLiteral("000")) + 10;
  top_ = metrics.height() + 8;
  side_ = std::clamp((viewport()->width() - names_ - 4) / std::max(1, maps_.heads), kSmallest, kLargest);
  verticalScrollBar()->setRange(0, std::max(0, maps_.layers * side_ + top_ + 4 - viewport()->height()));
  verticalScrollBar()->setPageStep(viewport()->height());
  verticalScrollBar()->setSingleStep(side_);
  horizontalScrollBar()->setRange(0, std::max(0, maps_.heads * side_ + names_ + 4 - viewport()->width()));
  horizontalScrollBar()->setPageStep(viewport()->width());
  viewport()->update();
}

void HeadGrid::resizeEvent(QResizeEvent* event) {
  QAbstractScrollArea::resizeEvent(event);
  measure();
}

QRect HeadGrid::headRect(int layer, int head) const {
  return {names_ + head * side_ - horizontalScrollBar()->value(), top_ + layer * side_ - verticalScrollBar()->value(), side_ - kGap, side_ - kGap};
}

std::pair<int, int> HeadGrid::at(const QPoint& point) const {
  if (point.x() < names_ || point.y() < top_) return {-1, -1};
  const int head = (point.x() - names_ + horizontalScrollBar()->value()) / side_, layer = (point.y() - top_ + verticalScrollBar()->value()) / side_;
  return head < maps_.heads && layer < maps_.layers ? std::pair(layer, head) : std::pair(-1, -1);
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void HeadGrid::render() {
  pictures_.clear();
  for (int layer = 0; layer < maps_.layers; ++layer)
    for (int head = 0; head < maps_.heads; ++head) pictures_.push_back(hasCells(layer) ? attentionImage(maps_, layer, head, theme_.sunken) : QImage());
  viewport()->update();
}

void HeadGrid::paintEvent(QPaintEvent*) {
  QPainter painter(viewport());
  if (pictures_.empty()) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(viewport()->rect().adjusted(12, 10, -12, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, emptyText_);
    return;
  }
  painter.setRenderHint(QPainter::SmoothPixmapTransform);
  for (int layer = 0; layer < maps_.layers; ++layer)
    for (int head = 0; head < maps_.heads; ++head) {
      const QRect box = headRect(layer, head);
      if (!box.intersects(viewport()->rect())) continue;
      const QImage& picture = pictures_[static_cast<size_t>(layer * maps_.heads + head)];
      if (picture.isNull()) painter.fillRect(box, QBrush(theme_.border, Qt::BDiagPattern));
      else painter.drawImage(box, picture);
    }
  if (layer_ >= 0) {
    painter.setPen(QPen(hasFocus() ? theme_.accent : theme_.text, 2));
    painter.drawRect(headRect(layer_, head_).adjusted(-1, -1, 1, 1));
  }
  const QColor base = palette().color(QPalette::Base);
  painter.fillRect(0, 0, viewport()->width(), top_ - 2, base);
  painter.fillRect(0, 0, names_ - 3, viewport()->height(), base);
  painter.setPen(theme_.textSecondary);
  const int text = fontMetrics().height();
  for (int head = 0; head < maps_.heads; ++head) {
    const QRect box = headRect(0, head);
    if (box.left() >= names_ - 2) painter.drawText(QRect(box.left(), 0, box.width(), top_), Qt::AlignCenter, QString::number(head));
  }
  for (int layer = 0; layer < maps_.layers; ++layer) {
    const QRect box = headRect(layer, 0);
    if (box.center().y() > top_ + text / 2) painter.drawText(QRect(0, box.top(), names_ - 8, box.height()), Qt::AlignRight | Qt::AlignVCenter, QString::number(layer));
  }
}

// ---- pointer and keyboard -----------------------------------------------------------------------------------------------

QString HeadGrid::describe(int layer, int head) const {
  if (layer < 0 || layer >= maps_.layers) return {};
  const QString name = tr("Layer %1, head %2").arg(layer).arg(head);
  if (!hasCells(layer)) return tr("%1: this layer has no attention").arg(name);
  const HeadAttention& of = maps_.at(layer, head);
  const Format f;
  return tr("%1: %2 on the first token, %3 on the token before, %4 on its own; entropy %5 bit")
      .arg(name, f.percent(of.first), f.percent(of.previous), f.percent(of.own), f.significant(of.entropy));
}

void HeadGrid::choose(int layer, int head) {
  if (maps_.layers == 0) return;
  layer = std::clamp(layer, 0, maps_.layers - 1);
  head = std::clamp(head, 0, maps_.heads - 1);
  if (layer == layer_ && head == head_) return;
  layer_ = layer;
  head_ = head;
  QScrollBar *down = verticalScrollBar(), *across = horizontalScrollBar();
  down->setValue(std::clamp(down->value(), top_ + (layer + 1) * side_ - viewport()->height(), layer * side_));
  across->setValue(std::clamp(across->value(), names_ + (head + 1) * side_ - viewport()->width(), head * side_));
  setAccessibleDescription(describe(layer, head));
  viewport()->update();
  Q_EMIT headChosen(layer, head);
}

void HeadGrid::mousePressEvent(QMouseEvent* event) {
  if (const auto [layer, head] = at(event->position().toPoint()); layer >= 0) choose(layer, head);
}

void HeadGrid::keyPressEvent(QKeyEvent* event) {
  switch (event->key()) {
    case Qt::Key_Left: return choose(layer_, head_ - 1);
    case Qt::Key_Right: return choose(layer_, head_ + 1);
    case Qt::Key_Up: return choose(layer_ - 1, head_);
    case Qt::Key_Down: return choose(layer_ + 1, head_);
    case Qt::Key_Home: return choose(layer_, 0);
    case Qt::Key_End: return choose(layer_, maps_.heads - 1);
    default: QAbstractScrollArea::keyPressEvent(event);
  }
}

void HeadGrid::focusInEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusInEvent(event);
  viewport()->update();
}

void HeadGrid::focusOutEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusOutEvent(event);
  viewport()->update();
}

bool HeadGrid::viewportEvent(QEvent* event) {
  if (event->type() != QEvent::ToolTip) return QAbstractScrollArea::viewportEvent(event);
  auto* help = static_cast<QHelpEvent*>(event);
  if (const auto [layer, head] = at(help->pos()); layer >= 0) QToolTip::showText(help->globalPos(), describe(layer, head), this);
  else QToolTip::hideText();
  return true;
}

}  // namespace winnow
