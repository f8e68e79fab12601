// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attention/head_grid.h"

#include <QPainter>
#include <QScrollBar>
#include <algorithm>
#include <utility>

#include "experiments/format.h"
#include "panels/attention/attention_colours.h"

namespace winnow {
namespace {
constexpr int kSmallest = 22, kLargest = 96, kGap = 3;  // px
}

HeadGrid::HeadGrid(QWidget* parent) : HeadCells(parent) { setAccessibleName(tr("Heads")); }

void HeadGrid::setTheme(const Theme& theme) {
  theme_ = theme;
  render();
}

void HeadGrid::clear(const QString& emptyText) {
  maps_ = {};
  pictures_.clear();
  choseNothing();
  emptyText_ = emptyText;
  setAccessibleDescription(emptyText);
  measure();
}

void HeadGrid::setMaps(const AttentionMaps& maps) {
  maps_ = maps;
  if (layer_ >= maps.layers || head_ >= maps.heads) choseNothing();
  measure();
  render();
  told_ = {-1, -1};  // what is chosen is told again
  choose(std::max(layer_, 0), std::max(head_, 0));
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

void HeadGrid::measure() {
  const QFontMetrics metrics = fontMetrics();
  left_ = metrics.horizontalAdvance(QStringLiteral("000")) + 10;
  top_ = metrics.height() + 8;
  cellWidth_ = cellHeight_ = std::clamp((viewport()->width() - left_ - 4) / std::max(1, maps_.heads), kSmallest, kLargest);
  verticalScrollBar()->setRange(0, std::max(0, maps_.layers * cellWidth_ + top_ + 4 - viewport()->height()));
  verticalScrollBar()->setPageStep(viewport()->height());
  verticalScrollBar()->setSingleStep(cellWidth_);
  horizontalScrollBar()->setRange(0, std::max(0, maps_.heads * cellWidth_ + left_ + 4 - viewport()->width()));
  horizontalScrollBar()->setPageStep(viewport()->width());
  viewport()->update();
}

QRect HeadGrid::headRect(int layer, int head) const { return cell(layer, head).adjusted(0, 0, -kGap, -kGap); }

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
    painter.setPen(QPen(frameColour(), 2));
    painter.drawRect(headRect(layer_, head_).adjusted(-1, -1, 1, 1));
  }
  const QColor base = palette().color(QPalette::Base);
  painter.fillRect(0, 0, viewport()->width(), top_ - 2, base);
  painter.fillRect(0, 0, left_ - 3, viewport()->height(), base);
  painter.setPen(theme_.textSecondary);
  const int text = fontMetrics().height();
  for (int head = 0; head < maps_.heads; ++head) {
    const QRect box = headRect(0, head);
    if (box.left() >= left_ - 2) painter.drawText(QRect(box.left(), 0, box.width(), top_), Qt::AlignCenter, QString::number(head));
  }
  for (int layer = 0; layer < maps_.layers; ++layer) {
    const QRect box = headRect(layer, 0);
    if (box.center().y() > top_ + text / 2) painter.drawText(QRect(0, box.top(), left_ - 8, box.height()), Qt::AlignRight | Qt::AlignVCenter, QString::number(layer));
  }
}

// ---- words --------------------------------------------------------------------------------------------------------------

QString HeadGrid::describe(int layer, int head) const {
  if (layer < 0 || layer >= maps_.layers) return {};
  const QString name = tr("Layer %1, head %2").arg(layer).arg(head);
  if (!hasCells(layer)) return tr("%1: this layer has no attention").arg(name);
  const HeadAttention& of = maps_.at(layer, head);
  const Format f;
  return tr("%1: %2 on the first token, %3 on the token before, %4 on its own; entropy %5 bit")
      .arg(name, f.percent(of.first), f.percent(of.previous), f.percent(of.own), f.significant(of.entropy));
}

void HeadGrid::told(int layer, int head) {
  const std::pair chosen(layer, head);
  if (std::exchange(told_, chosen) != chosen) Q_EMIT headChosen(layer, head);
}

}  // namespace winnow
