// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/score_delegate.h"

#include <QApplication>
#include <QPainter>
#include <algorithm>

#include "panels/text/flow_colours.h"

namespace winnow {

int ScoreDelegate::numberWidth(const QFontMetrics& metrics) const {
  return metrics.horizontalAdvance(scale_.errors ? QStringLiteral("+0.0123 ± 0.012 nat") : QStringLiteral("+0.0123 nat"));
}

void ScoreDelegate::paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const {
  QStyleOptionViewItem own = option;
  initStyleOption(&own, index);
  const QString text = own.text;
  own.text.clear();
  QStyle* style = option.widget ? option.widget->style() : QApplication::style();
  style->drawControl(QStyle::CE_ItemViewItem, &own, painter, option.widget);
  painter->save();
  const QRectF area = QRectF(option.rect).adjusted(8, 4, -numberWidth(option.fontMetrics) - 16, -4);
  if (area.width() > 20) drawBar(painter, area, index);
  painter->setPen(index.data(ScoreValueRole).isValid() && !index.data(ScoreNoiseRole).toBool() ? theme_.text : theme_.textSecondary);
  painter->drawText(option.rect.adjusted(0, 0, -8, 0), Qt::AlignRight | Qt::AlignVCenter, text);
  painter->restore();
}

void ScoreDelegate::drawBar(QPainter* painter, const QRectF& area, const QModelIndex& index) const {
  const QVariant value = index.data(ScoreValueRole), error = index.data(ScoreErrorRole);
  const double middle = area.center().y();
  if (!value.isValid()) {
    painter->fillRect(QRectF(area.left(), middle - 4, area.width(), 8), QBrush(theme_.borderStrong, Qt::BDiagPattern));
    return;
  }
  const double range = std::max(scale_.top + scale_.bottom, 1e-12), unit = area.width() / range;
  const double zero = area.left() + scale_.bottom * unit;
  const double low = std::max(area.left(), zero - scale_.noise * unit), high = std::min(area.right(), zero + scale_.noise * unit);
  if (high - low > 1) painter->fillRect(QRectF(low, area.top() - 4, high - low, area.height() + 8), theme_.grid);
  const double score = value.toDouble(), end = std::clamp(zero + score * unit, area.left(), area.right());
  const bool noise = index.data(ScoreNoiseRole).toBool();
  painter->setPen(QPen(noise ? theme_.textSecondary : flowLine(score >= 0 ? 1.0f : -1.0f, theme_), 1));
  painter->setBrush(noise ? theme_.grid : score >= 0 ? theme_.attributionPlusStrong : theme_.attributionMinusStrong);
  painter->drawRect(QRectF(QPointF(std::min(zero, end), middle - 5), QPointF(std::max(zero, end), middle + 5)));
  painter->setPen(QPen(theme_.borderStrong, 1));
  painter->drawLine(QPointF(zero, area.top() - 4), QPointF(zero, area.bottom() + 4));
  if (!error.isValid()) return;
  const double from = std::max(area.left(), end - error.toDouble() * unit), to = std::min(area.right(), end + error.toDouble() * unit);
  painter->setPen(QPen(theme_.text, 1.4));
  painter->drawLine(QPointF(from, middle), QPointF(to, middle));
  for (const double at : {from, to}) painter->drawLine(QPointF(at, middle - 3), QPointF(at, middle + 3));
}

}  // namespace winnow
