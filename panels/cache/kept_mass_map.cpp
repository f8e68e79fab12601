// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/cache/kept_mass_map.h"

#include <QPainter>
#include <QScrollBar>
#include <algorithm>
#include <cmath>

#include "experiments/format.h"

namespace winnow {
namespace {
constexpr int kLowest = 16, kTallest = 44, kNarrowest = 12, kWidest = 72, kGap = 2, kMargin = 10;  // px
}

KeptMassMap::KeptMassMap(QWidget* parent) : HeadCells(parent) { setAccessibleName(tr("Attention kept by layer and head")); }

void KeptMassMap::setTheme(const Theme& theme) {
  theme_ = theme;
  viewport()->update();
}

void KeptMassMap::clear(const QString& emptyText) {
  kept_ = {};
  choseNothing();
  emptyText_ = emptyText;
  setAccessibleDescription(emptyText);
  measure();
}

void KeptMassMap::setKept(const KeptMass& kept) {
  if (layer_ >= kept.layers || head_ >= kept.heads) choseNothing();
  kept_ = kept;
  setAccessibleDescription(layer_ >= 0 ? describe(layer_, head_) : tr("%1 layers, %2 heads").arg(kept.layers).arg(kept.heads));
  measure();
}

QColor KeptMassMap::colourOf(double mass) { return Theme::sequential(1 - std::sqrt(1 - std::clamp(mass, 0.0, 1.0))); }

// ---- geometry -----------------------------------------------------------------------------------------------------------

void KeptMassMap::measure() {
  const QFontMetrics metrics = fontMetrics();
  names_ = metrics.horizontalAdvance(tr("Layer")) + kMargin + 10;
  figures_ = metrics.horizontalAdvance(Format().percent(0.999)) + 18;
  top_ = metrics.height() + 10;
  bottom_ = metrics.height() + 16;
  const int layers = std::max(1, kept_.layers), heads = std::max(1, kept_.heads), width = viewport()->width();
  bar_ = std::clamp(width / 4, 60, 260);
  left_ = names_ + bar_ + figures_;
  cellWidth_ = std::clamp((width - left_ - kMargin) / heads, kNarrowest, kWidest);
  cellHeight_ = std::clamp((viewport()->height() - top_ - bottom_) / layers, std::max(kLowest, metrics.height() + 2), kTallest);
  const int room = viewport()->height() - top_ - bottom_;
  verticalScrollBar()->setRange(0, std::max(0, layers * cellHeight_ - room));
  verticalScrollBar()->setPageStep(std::max(1, room));
  verticalScrollBar()->setSingleStep(cellHeight_);
  horizontalScrollBar()->setRange(0, std::max(0, left_ + heads * cellWidth_ + kMargin - width));
  horizontalScrollBar()->setPageStep(width);
  horizontalScrollBar()->setSingleStep(cellWidth_);
  viewport()->update();
}

int KeptMassMap::rowTop(int layer) const { return cell(layer, 0).top(); }

QRect KeptMassMap::barRect(int layer) const { return {names_, rowTop(layer) + kGap, bar_, cellHeight_ - 2 * kGap}; }

QRect KeptMassMap::cellRect(int layer, int head) const {
  if (head < 0) return barRect(layer);
  return cell(layer, head).adjusted(0, kGap / 2, -kGap, kGap / 2 - kGap);
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void KeptMassMap::paintCells(QPainter& painter, int layer) const {
  const bool figures = cellWidth_ - kGap >= fontMetrics().horizontalAdvance(QStringLiteral("100")) + 6;
  for (int head = 0; head < kept_.heads; ++head) {
    const QRect box = cellRect(layer, head);
    if (!kept_.attends[static_cast<size_t>(layer)]) {
      painter.fillRect(box, QBrush(theme_.border, Qt::BDiagPattern));
      continue;
    }
    const double mass = kept_.at(layer, head).mass;
    const QColor colour = colourOf(mass);
    painter.fillRect(box, colour);
    if (!figures) continue;
    painter.setPen(colour.lightnessF() > 0.5F ? Qt::black : Qt::white);
    painter.drawText(box, Qt::AlignCenter, QString::number(static_cast<int>(std::floor(mass * 100))));
  }
}

void KeptMassMap::paintBar(QPainter& painter, int layer) const {
  const QRect track = barRect(layer), row(0, rowTop(layer), left_ - kGap, cellHeight_);
  painter.fillRect(row, palette().color(QPalette::Base));
  painter.setPen(theme_.text);
  painter.drawText(QRect(0, row.top(), names_ - 8, cellHeight_), Qt::AlignRight | Qt::AlignVCenter, QString::number(layer));
  if (!kept_.attends[static_cast<size_t>(layer)]) {
    painter.setPen(theme_.textSecondary);
    painter.drawText(QRect(names_, row.top(), bar_ + figures_, cellHeight_), Qt::AlignLeft | Qt::AlignVCenter, tr("no attention"));
    return;
  }
  const KeptMass::Head mean = kept_.mean(layer);
  painter.fillRect(track, theme_.sunken);
  painter.fillRect(QRectF(track.left(), track.top(), track.width() * std::clamp(mean.mass, 0.0, 1.0), track.height()), theme_.accent);
  const double held = track.left() + track.width() * std::clamp(mean.held, 0.0, 1.0);
  painter.fillRect(QRectF(held - 2, track.top() - 1, 4, track.height() + 2), palette().color(QPalette::Base));
  painter.fillRect(QRectF(held - 1, track.top() - 1, 2, track.height() + 2), theme_.text);
  painter.setPen(theme_.text);
  painter.drawText(QRect(track.right() + 8, row.top(), figures_, cellHeight_), Qt::AlignLeft | Qt::AlignVCenter, Format().percent(mean.mass));
}

void KeptMassMap::paintHeadings(QPainter& painter) const {
  painter.fillRect(0, 0, viewport()->width(), top_, palette().color(QPalette::Base));
  painter.setPen(theme_.textSecondary);
  const int widest = fontMetrics().horizontalAdvance(QString::number(kept_.heads - 1)) + 4, apart = std::max(1, (widest + cellWidth_ - 1) / cellWidth_);
  painter.save();
  painter.setClipRect(QRect(left_, 0, viewport()->width(), top_));
  for (int head = 0; head < kept_.heads; head += apart) {
    const QRect box = cellRect(0, head);
    painter.drawText(QRect(box.center().x() - 40, 0, 80, top_), Qt::AlignCenter, QString::number(head));
  }
  painter.restore();
  painter.drawText(QRect(0, 0, names_ - 8, top_), Qt::AlignRight | Qt::AlignVCenter, tr("Layer"));
  const QString head = tr("Head");
  const int room = bar_ + figures_ - fontMetrics().horizontalAdvance(head) - 16;
  painter.drawText(QRect(names_, 0, bar_ + figures_ - 8, top_), Qt::AlignRight | Qt::AlignVCenter, head);
  painter.drawText(QRect(names_, 0, room, top_), Qt::AlignLeft | Qt::AlignVCenter, fontMetrics().elidedText(tr("Mean"), Qt::ElideRight, room));
}

void KeptMassMap::paintLegend(QPainter& painter) const {
  const QFontMetrics metrics = fontMetrics();
  const int top = viewport()->height() - bottom_, side = metrics.height() - 3;
  painter.fillRect(QRect(0, top, viewport()->width(), bottom_), palette().color(QPalette::Base));
  int x = names_;
  const auto entry = [&](const QString& text, auto paint) {
    const int width = side + 6 + metrics.horizontalAdvance(text);
    if (x + width > viewport()->width() - 4) return;
    paint(QRect(x, top + (bottom_ - side) / 2, side, side));
    painter.setPen(theme_.textSecondary);
    painter.drawText(QRect(x + side + 6, top, width, bottom_), Qt::AlignLeft | Qt::AlignVCenter, text);
    x += width + 14;
  };
  entry(tr("positions held"), [&](const QRect& box) { painter.fillRect(QRect(box.center().x() - 1, box.top(), 2, box.height()), theme_.text); });
  for (const double mass : {1.0, 0.99, 0.9, 0.5, 0.0}) {
    entry(Format().percent(mass), [&](const QRect& box) {
      painter.fillRect(box, colourOf(mass));
      painter.setPen(theme_.border);
      painter.drawRect(box.adjusted(0, 0, -1, -1));
    });
  }
}

void KeptMassMap::paintEvent(QPaintEvent*) {
  QPainter painter(viewport());
  if (kept_.layers == 0) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(viewport()->rect().adjusted(12, 10, -12, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, emptyText_);
    return;
  }
  for (int layer = 0; layer < kept_.layers; ++layer) {
    if (rowTop(layer) + cellHeight_ < top_ || rowTop(layer) > viewport()->height()) continue;
    paintCells(painter, layer);
    paintBar(painter, layer);
  }
  if (layer_ >= 0) {
    painter.save();
    if (head_ >= 0) painter.setClipRect(QRect(left_ - kGap, 0, viewport()->width(), viewport()->height()));
    const QRect frame = cellRect(layer_, head_).adjusted(-1, -1, 0, 0);
    painter.setPen(QPen(theme_.window, 4));
    painter.drawRect(frame);
    painter.setPen(QPen(frameColour(), 2));
    painter.drawRect(frame);
    painter.restore();
  }
  paintHeadings(painter);
  paintLegend(painter);
}

// ---- words --------------------------------------------------------------------------------------------------------------

QString KeptMassMap::describe(int layer, int head) const {
  if (layer < 0 || layer >= kept_.layers || head >= kept_.heads) return {};
  const QString name = head < 0 ? tr("Layer %1").arg(layer) : tr("Layer %1, head %2").arg(layer).arg(head);
  if (!kept_.attends[static_cast<size_t>(layer)]) return tr("%1: this layer has no attention").arg(name);
  const Format f;
  const KeptMass::Head of = head < 0 ? kept_.mean(layer) : kept_.at(layer, head);
  const QString text = tr("%1: %2 of the whole cache's attention kept, %3 of positions held").arg(name, f.percent(of.mass), f.percent(of.held));
  if (head >= 0) return text;
  const int least = kept_.least(layer);
  return tr("%1; head %2 keeps least, %3").arg(text).arg(least).arg(f.percent(kept_.at(layer, least).mass));
}

}  // namespace winnow
