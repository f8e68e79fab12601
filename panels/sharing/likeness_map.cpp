// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/sharing/likeness_map.h"

#include <QPainter>
#include <algorithm>

#include "panels/theme/heat.h"

namespace winnow {
namespace {

QString two(double value) { return QString::number(value, 'f', 2); }

}  // namespace

LikenessMap::LikenessMap(QWidget* parent) : TriangleMap(parent) { setAccessibleName(tr("Likeness of layers")); }

void LikenessMap::setTheme(const Theme& theme) {
  theme_ = theme;
  update();
}

void LikenessMap::clear(const QString& emptyText) {
  map_.reset();
  emptyText_ = emptyText;
  chooseNothing();
  setAccessibleDescription(emptyText);
  update();
}

void LikenessMap::setMap(const SimilarityMap& map, SimilarityOf which) {
  if (!map_ || map_->layers != map.layers) chooseNothing();
  map_ = map;
  which_ = which;
  low_ = 1;
  for (int a = 0; a < map.layers; ++a)
    for (int b = 0; b < a; ++b) low_ = std::min(low_, map.at(which, a, b));
  describeChosen(tr("%1 layers").arg(map.layers));
  update();
}

void LikenessMap::setSpans(std::vector<LayerSpan> spans) {
  spans_ = std::move(spans);
  update();
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

int LikenessMap::margin() const { return fontMetrics().horizontalAdvance(QStringLiteral("000")) + 8; }
int LikenessMap::legend() const { return fontMetrics().height() + 16; }

int LikenessMap::cell() const {
  const int layers = std::max(1, map_ ? map_->layers : 1);
  return std::max(4, std::min((width() - margin() - 8) / layers, (height() - fontMetrics().height() - 8 - legend()) / layers));
}

QRect LikenessMap::cellRect(int a, int b) const {
  if (!map_ || b > a || b < 0 || a >= map_->layers) return {};
  return {margin() + b * cell(), 6 + a * cell(), cell(), cell()};
}

std::optional<std::pair<int, int>> LikenessMap::at(const QPoint& point) const {
  if (!map_ || point.x() < margin() || point.y() < 6) return {};
  const int a = (point.y() - 6) / cell(), b = (point.x() - margin()) / cell();
  return a < map_->layers && b <= a ? std::optional(std::pair(a, b)) : std::nullopt;
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void LikenessMap::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  if (!map_) return paintEmpty(painter, emptyText_);
  const int side = cell(), text = fontMetrics().height();
  const bool numbers = fontMetrics().horizontalAdvance(QStringLiteral("0.00")) + 4 <= side && text <= side;
  const auto apart = [side](int size) { return std::max(1, (size + side - 1) / side); };
  const int down = apart(text), across = apart(fontMetrics().horizontalAdvance(QStringLiteral("00")) + 8);  // narrow ones are numbered now and then
  for (int a = 0; a < map_->layers; ++a) {
    for (int b = 0; b <= a; ++b) {
      const QRect box = cellRect(a, b).adjusted(0, 0, side > 8 ? -1 : 0, side > 8 ? -1 : 0);
      const QColor fill = a == b ? theme_.sunken : Theme::sequential(share(map_->at(which_, a, b)));
      painter.fillRect(box, fill);
      painter.setPen(inkOn(fill));
      if (numbers && a != b) painter.drawText(box, Qt::AlignCenter, two(map_->at(which_, a, b)));
    }
    painter.setPen(theme_.text);
    const QString number = QString::number(a);
    if (a % down == 0) painter.drawText(QRect(0, 6 + a * side, margin() - 8, side).adjusted(0, -text, 0, text), Qt::AlignRight | Qt::AlignVCenter, number);
    if (a % across == 0)
      painter.drawText(QRect(margin() + a * side, 6 + map_->layers * side, side, text + 4).adjusted(-20, 0, 20, 0), Qt::AlignCenter, number);
  }
  painter.setBrush(Qt::NoBrush);
  for (const LayerSpan& span : spans_) {
    if (span.last >= map_->layers) continue;
    const QRect frame = cellRect(span.first, span.first).united(cellRect(span.last, span.last)).adjusted(-1, -1, 0, 0);
    painter.setPen(QPen(theme_.window, 5));
    painter.drawRect(frame);
    painter.setPen(QPen(theme_.accent, 3));
    painter.drawRect(frame);
  }
  if (anyChosen()) {
    painter.setPen(QPen(hasFocus() ? theme_.accent : theme_.text, 2, Qt::DotLine));
    painter.drawRect(cellRect(row_, column_).adjusted(1, 1, -2, -2));
  }
  paintHeatLegend(painter, theme_, QRect(margin(), height() - legend(), width() - margin(), legend()), two(low_), two(1));
}

QString LikenessMap::describe(int a, int b) const {
  if (!map_ || a < 0) return {};
  return a == b ? tr("Layer %1").arg(a) : tr("Layers %1 and %2: %3 alike").arg(b).arg(a).arg(QString::number(map_->at(which_, a, b), 'f', 4));
}

}  // namespace winnow
