// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/theme/heat.h"

#include <QLinearGradient>
#include <QPainter>
#include <algorithm>

namespace winnow {

QColor inkOn(const QColor& fill) { return qGray(fill.rgb()) > 128 ? QColor(Qt::black) : QColor(Qt::white); }

void paintHeatLegend(QPainter& painter, const Theme& theme, const QRect& strip, const QString& low, const QString& high) {
  const QFontMetrics metrics = painter.fontMetrics();
  const int lowWidth = metrics.horizontalAdvance(low) + 8, highWidth = metrics.horizontalAdvance(high) + 8;
  const QRect bar(strip.left() + lowWidth, strip.top() + 9, std::clamp(strip.width() - lowWidth - highWidth - 6, 20, 240), strip.height() - 18);
  QLinearGradient gradient(bar.topLeft(), bar.topRight());
  for (int i = 0; i <= 8; ++i) gradient.setColorAt(i / 8.0, Theme::sequential(i / 8.0));
  painter.fillRect(bar, gradient);
  painter.setPen(theme.textSecondary);
  painter.drawText(QRect(strip.left(), strip.top(), lowWidth - 8, strip.height()), Qt::AlignVCenter | Qt::AlignRight, low);
  painter.drawText(QRect(bar.right() + 8, strip.top(), highWidth, strip.height()), Qt::AlignVCenter | Qt::AlignLeft, high);
}

}  // namespace winnow
