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

namespace {

// Values of a heat map: from 0 up in one hue, on both sides of 0 in two.
struct HeatScale {
  float largest = 0;
  bool bothSides = false;

  explicit HeatScale(const Chart::Panel& panel) : largest(panel.largest) {
    for (const auto& row : panel.cells)
      for (const float v : row) {
        if (!std::isfinite(v)) continue;
        largest = std::max(largest, std::fabs(v));
        bothSides = bothSides || v < 0;
      }
    if (largest == 0) largest = 1;
  }
  QColor colour(const Theme& theme, double share) const { return bothSides ? theme.diverging(share) : Theme::sequential(share); }
  double lowest() const { return bothSides ? -static_cast<double>(largest) : 0; }
};

void paintHeatScale(QCPPainter* painter, const QRectF& bar, const HeatScale& heat, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  QLinearGradient gradient(bar.bottomLeft(), bar.topLeft());
  for (int i = 0; i <= 8; ++i) gradient.setColorAt(i / 8.0, heat.colour(theme, heat.bothSides ? i / 4.0 - 1 : i / 8.0));
  painter->setPen(QPen(theme.border, 1));
  painter->setBrush(gradient);
  painter->drawRect(bar);
  painter->setAntialiasing(true);
  painter->setPen(theme.textSecondary);
  const QFontMetricsF small(look.small);
  const Format format;
  const auto tick = [&](double at, double value) {
    painter->drawText(QRectF(bar.right() + 5, at - small.height() / 2, 70, small.height()), Qt::AlignLeft | Qt::AlignVCenter, format.significant(value, 2));
  };
  const auto largest = static_cast<double>(heat.largest);
  tick(bar.top() + small.height() / 2, largest);
  if (bar.height() > small.height() * 3) tick(bar.center().y(), (largest + heat.lowest()) / 2);
  tick(bar.bottom() - small.height() / 2, heat.lowest());
}

// As many names of columns as have room.
void paintColumnNames(QCPPainter* painter, const QStringList& names, const QRectF& line, double width, const QFontMetricsF& metrics) {
  double free = line.left();
  for (qsizetype i = 0; i < names.size(); ++i) {
    const double text = metrics.horizontalAdvance(names[i]), left = line.left() + width * (static_cast<double>(i) + 0.5) - text / 2;
    if (left < free || left + text > line.right()) continue;
    painter->drawText(QPointF(left, line.top() + metrics.ascent()), names[i]);
    free = left + text + 10;
  }
}

}  // namespace

void paintHeatmap(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  const Theme& theme = look.style->theme;
  size_t columns = 0;
  for (const auto& row : panel.cells) columns = std::max(columns, row.size());
  if (columns == 0) return;
  const HeatScale heat(panel);
  const QFontMetricsF small(look.small);
  const bool named = panel.y.categories.size() == static_cast<qsizetype>(panel.cells.size());
  const auto nameOf = [&](size_t r) { return named ? panel.y.categories[static_cast<qsizetype>(r)] : QString::number(r + 1); };
  double names = 26;
  for (size_t r = 0; r < panel.cells.size(); ++r) names = std::max(names, small.horizontalAdvance(nameOf(r)));
  const double foot = (panel.x.categories.isEmpty() ? 1 : 2) * small.height() + 10;
  const QRectF map(area.left() + names + 8, area.top(), area.width() - names - 8 - 90, area.height() - foot);
  const double width = map.width() / static_cast<double>(columns), height = std::min(26.0, map.height() / static_cast<double>(panel.cells.size()));
  const auto apart = static_cast<size_t>(std::max(1.0, std::ceil((small.height() - 2) / height)));
  painter->setFont(look.small);
  painter->setAntialiasing(false);
  for (size_t r = 0; r < panel.cells.size(); ++r) {
    const double top = std::round(map.top() + height * static_cast<double>(r)), bottom = std::round(map.top() + height * static_cast<double>(r + 1));
    painter->setPen(theme.textSecondary);
    if (r % apart == 0)
      painter->drawText(QRectF(area.left(), (top + bottom - small.height()) / 2, names, small.height()), Qt::AlignRight | Qt::AlignVCenter, nameOf(r));
    painter->setPen(Qt::NoPen);
    for (size_t c = 0; c < panel.cells[r].size(); ++c) {
      if (!std::isfinite(panel.cells[r][c])) continue;
      const double left = std::round(map.left() + width * static_cast<double>(c)), right = std::round(map.left() + width * static_cast<double>(c + 1));
      painter->setBrush(heat.colour(theme, static_cast<double>(panel.cells[r][c] / heat.largest)));
      painter->drawRect(QRectF(left, top, right - left, bottom - top));
    }
  }
  const double end = map.top() + height * static_cast<double>(panel.cells.size());
  painter->setPen(QPen(theme.border, 1));
  painter->setBrush(Qt::NoBrush);
  painter->drawRect(QRectF(map.left(), map.top(), map.width(), end - map.top()));
  painter->setPen(theme.textSecondary);
  paintColumnNames(painter, panel.x.categories, QRectF(map.left(), end + 4, map.width(), small.height()), width, small);
  painter->drawText(QRectF(map.left(), end + foot - small.height() - 4, map.width(), small.height()), Qt::AlignHCenter | Qt::AlignVCenter, panel.x.title);
  paintHeatScale(painter, QRectF(map.right() + 16, map.top(), 12, std::min(120.0, end - map.top())), heat, look);
}

}  // namespace winnow
