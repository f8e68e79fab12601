// SPDX-License-Identifier: GPL-3.0-or-later
// Panels whose rows are sources of a context: their scores, and their scores per response token.
#include <algorithm>
#include <cmath>

#include "experiments/format.h"
#include "panels/plot/chart_panels.h"

namespace winnow {
namespace {

QString translated(const char* text) { return QCoreApplication::translate("winnow::ChartPainter", text); }

// The strongest rows that fit, in document order.
std::vector<size_t> rowsShown(const ChartSeries& s, size_t room) {
  std::vector<size_t> rows(s.y.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = i;
  if (rows.size() <= room) return rows;
  const auto strength = [&](size_t i) { return std::isfinite(s.y[i]) ? std::fabs(s.y[i]) : -1; };
  std::stable_sort(rows.begin(), rows.end(), [&](size_t a, size_t b) { return strength(a) > strength(b); });
  rows.resize(room);
  std::sort(rows.begin(), rows.end());
  return rows;
}

double textColumn(const ChartSeries& s, const QFontMetricsF& metrics) {
  double width = 160;
  for (const QString& label : s.labels) width = std::max(width, metrics.horizontalAdvance(label) + 40);
  return width;
}

}  // namespace

void paintAttribution(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  if (panel.series.empty()) return;
  const Theme& theme = look.style->theme;
  const ChartSeries& s = panel.series.front();
  const QFontMetricsF metrics(look.font), small(look.small);
  const double smallest = metrics.height() + 3, footer = small.height() + 8;
  const size_t room = static_cast<size_t>(std::max(1.0, std::floor((area.height() - footer) / smallest)));
  const std::vector<size_t> rows = rowsShown(s, room);
  const double rowHeight = std::min(30.0, (area.height() - footer) / static_cast<double>(std::max<size_t>(rows.size(), 1)));
  double largest = 0;
  for (const double y : s.y)
    if (std::isfinite(y)) largest = std::max(largest, std::fabs(y));
  if (largest == 0) largest = 1;
  const bool negative = std::any_of(s.y.begin(), s.y.end(), [&](double y) { return y < -0.03 * largest; });
  const double value = small.horizontalAdvance(QStringLiteral("−88.8 nat")) + 10, textWidth = std::floor(std::min(area.width() * 0.56, textColumn(s, metrics)));
  const double left = area.left() + textWidth + 12, right = area.right() - value;
  const double zero = negative ? left + value + (right - left - value) * 0.3 : left;
  const double unit = std::min((right - zero) / largest, negative ? (zero - left - value) / largest : std::numeric_limits<double>::infinity());
  if (panel.series.size() > 1 && !panel.series[1].y.empty()) {
    const double noise = std::fabs(panel.series[1].y.back()) * unit;
    painter->setPen(Qt::NoPen);
    painter->setBrush(theme.grid);
    const QRectF band(QPointF(std::max(left, zero - noise), area.top()), QPointF(std::min(right, zero + noise), area.top() + rowHeight * static_cast<double>(rows.size())));
    painter->drawRect(band);
  }
  painter->setPen(QPen(theme.borderStrong, 1));
  painter->drawLine(QPointF(zero, area.top()), QPointF(zero, area.top() + rowHeight * static_cast<double>(rows.size())));
  const Format format;
  for (size_t r = 0; r < rows.size(); ++r) {
    const size_t i = rows[r];
    const double top = area.top() + rowHeight * static_cast<double>(r), middle = top + rowHeight / 2;
    painter->setFont(look.small);
    painter->setPen(theme.textSecondary);
    painter->drawText(QRectF(area.left(), top, 26, rowHeight), Qt::AlignRight | Qt::AlignVCenter, QString::number(std::llround(s.x[i]) + 1));
    painter->setFont(look.font);
    painter->setPen(theme.text);
    painter->drawText(QRectF(area.left() + 34, top, textWidth - 34, rowHeight), Qt::AlignLeft | Qt::AlignVCenter,
                      metrics.elidedText(i < s.labels.size() ? s.labels[i] : QString(), Qt::ElideRight, textWidth - 34));
    painter->setFont(look.small);
    if (!std::isfinite(s.y[i])) {
      painter->setPen(theme.textSecondary);
      painter->drawText(QRectF(zero + 6, top, right - zero + value, rowHeight), Qt::AlignLeft | Qt::AlignVCenter, translated("not evaluated"));
      continue;
    }
    const double end = zero + s.y[i] * unit, half = std::min(9.0, rowHeight * 0.32);
    painter->setPen(QPen(s.y[i] >= 0 ? theme.worse : theme.better, 1));
    painter->setBrush(s.y[i] >= 0 ? theme.attributionPlusStrong : theme.attributionMinusStrong);
    painter->drawRect(QRectF(QPointF(std::min(zero, end), middle - half), QPointF(std::max(zero, end), middle + half)));
    painter->setPen(theme.text);
    const QString label = format.nats(s.y[i]);
    const double labelLeft = s.y[i] >= 0 ? end + 6 : end - 6 - small.horizontalAdvance(label);
    painter->drawText(QPointF(labelLeft, middle + small.ascent() / 2 - 1), label);
  }
  painter->setPen(theme.textSecondary);
  QString foot = panel.y.title + QStringLiteral(" (") + panel.y.unit + u')';
  if (rows.size() < s.y.size()) foot = translated("the strongest %1 of %2 sources").arg(rows.size()).arg(s.y.size()) + QStringLiteral(" · ") + foot;
  painter->drawText(QRectF(area.left(), area.top() + rowHeight * static_cast<double>(rows.size()) + 4, area.width(), small.height()), Qt::AlignRight | Qt::AlignVCenter, foot);
}

void paintHeatmap(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  size_t columns = 0;
  float largest = 0;
  for (const auto& row : panel.cells) {
    columns = std::max(columns, row.size());
    for (const float v : row)
      if (std::isfinite(v)) largest = std::max(largest, std::fabs(v));
  }
  if (columns == 0) return;
  if (largest == 0) largest = 1;
  const QFontMetricsF small(look.small);
  const QRectF map(area.left() + 34, area.top(), area.width() - 34 - 90, area.height() - small.height() - 10);
  const double width = map.width() / static_cast<double>(columns), height = std::min(26.0, map.height() / static_cast<double>(panel.cells.size()));
  painter->setFont(look.small);
  painter->setAntialiasing(false);
  for (size_t r = 0; r < panel.cells.size(); ++r) {
    const double top = std::round(map.top() + height * static_cast<double>(r)), bottom = std::round(map.top() + height * static_cast<double>(r + 1));
    painter->setPen(theme.textSecondary);
    if (height >= small.height() - 2)
      painter->drawText(QRectF(area.left(), top, 26, bottom - top), Qt::AlignRight | Qt::AlignVCenter, QString::number(r + 1));
    painter->setPen(Qt::NoPen);
    for (size_t c = 0; c < panel.cells[r].size(); ++c) {
      const double left = std::round(map.left() + width * static_cast<double>(c)), right = std::round(map.left() + width * static_cast<double>(c + 1));
      painter->setBrush(theme.diverging(static_cast<double>(panel.cells[r][c] / largest)));
      painter->drawRect(QRectF(left, top, right - left, bottom - top));
    }
  }
  const double end = map.top() + height * static_cast<double>(panel.cells.size());
  painter->setPen(QPen(theme.border, 1));
  painter->setBrush(Qt::NoBrush);
  painter->drawRect(QRectF(map.left(), map.top(), map.width(), end - map.top()));
  painter->setPen(theme.textSecondary);
  painter->drawText(QRectF(map.left(), end + 4, map.width(), small.height()), Qt::AlignHCenter | Qt::AlignVCenter, panel.x.title);
  const QRectF scale(map.right() + 16, map.top(), 12, std::min(120.0, end - map.top()));
  QLinearGradient gradient(scale.bottomLeft(), scale.topLeft());
  for (int i = 0; i <= 8; ++i) gradient.setColorAt(i / 8.0, theme.diverging(i / 4.0 - 1));
  painter->setPen(QPen(theme.border, 1));
  painter->setBrush(gradient);
  painter->drawRect(scale);
  painter->setAntialiasing(true);
  painter->setPen(theme.textSecondary);
  const Format format;
  const auto tick = [&](double at, double value) {
    painter->drawText(QRectF(scale.right() + 5, at - small.height() / 2, 70, small.height()), Qt::AlignLeft | Qt::AlignVCenter, format.significant(value, 2));
  };
  tick(scale.top() + small.height() / 2, static_cast<double>(largest));
  if (scale.height() > small.height() * 3) tick(scale.center().y(), 0);
  tick(scale.bottom() - small.height() / 2, -static_cast<double>(largest));
}

}  // namespace winnow
