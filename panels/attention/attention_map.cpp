// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attention/attention_map.h"

#include <QPainter>
#include <algorithm>

#include "experiments/format.h"
#include "panels/attention/attention_colours.h"

namespace winnow {
namespace {
constexpr int kMargin = 6;  // px
}

AttentionMap::AttentionMap(QWidget* parent) : TriangleMap(parent) { setAccessibleName(tr("Attention of one head")); }

void AttentionMap::setTheme(const Theme& theme) {
  theme_ = theme;
  render();
}

void AttentionMap::clear(const QString& emptyText) {
  maps_ = {};
  layer_ = head_ = -1;
  chooseNothing();
  emptyText_ = emptyText;
  setAccessibleDescription(emptyText);
  update();
}

void AttentionMap::setMaps(const AttentionMaps& maps) {
  maps_ = maps;
  layer_ = head_ = -1;
  chooseNothing();
}

void AttentionMap::setHead(int layer, int head) {
  layer_ = layer;
  head_ = head;
  emptyText_ = tr("This layer has no attention.");
  describeChosen(shown() ? tr("%1 tokens").arg(maps_.tokens) : emptyText_);
  render();
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

QRect AttentionMap::square() const {
  const int side = std::max(40, std::min(width() - 2 * kMargin, height() - legend() - 2 * kMargin));
  return {(width() - side) / 2, kMargin, side, side};
}

double AttentionMap::edge(int cell) const { return static_cast<double>(square().width()) * cell / std::max(1, maps_.cells()); }

QRect AttentionMap::cellRect(int query, int key) const {
  if (!shown() || query < 0 || query >= maps_.cells() || key < 0 || key > query) return {};
  const QRectF box(square().left() + edge(key), square().top() + edge(query), edge(key + 1) - edge(key), edge(query + 1) - edge(query));
  return box.toAlignedRect();
}

std::optional<std::pair<int, int>> AttentionMap::at(const QPoint& point) const {
  if (!shown() || !square().contains(point)) return {};
  const int query = static_cast<int>((point.y() - square().top()) / edge(1)), key = static_cast<int>((point.x() - square().left()) / edge(1));
  return query < maps_.cells() && key <= query ? std::optional(std::pair(query, key)) : std::nullopt;
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void AttentionMap::render() {
  if (shown()) picture_ = attentionImage(maps_, layer_, head_, theme_.sunken);
  update();
}

void AttentionMap::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  if (!shown()) return paintEmpty(painter, emptyText_);
  painter.setRenderHint(QPainter::SmoothPixmapTransform, maps_.cells() > square().width());
  painter.drawImage(square(), picture_);
  if (anyChosen()) {
    painter.setPen(QPen(theme_.textSecondary, 1, Qt::DotLine));
    painter.drawRect(QRect(QPoint(square().left(), cellRect(row_, 0).top()), cellRect(row_, row_).bottomRight()));
    painter.setPen(QPen(hasFocus() ? theme_.accent : theme_.text, 2));
    painter.drawRect(cellRect(row_, column_).adjusted(-1, -1, 1, 1));
  }
  painter.setPen(theme_.textSecondary);
  const int top = height() - legend(), width = fontMetrics().horizontalAdvance(QStringLiteral("100 %")) + 8;
  const QRect bar(square().left() + width, top + 9, std::clamp(square().width() - 2 * width, 20, 240), legend() - 18);
  for (int x = 0; x < bar.width(); ++x) {
    const double root = x / static_cast<double>(bar.width());
    painter.fillRect(bar.left() + x, bar.top(), 1, bar.height(), attentionColour(root * root));
  }
  const Format f;
  painter.drawText(QRect(square().left(), top, width - 8, legend()), Qt::AlignRight | Qt::AlignVCenter, f.percent(0));
  painter.drawText(QRect(bar.right() + 8, top, this->width(), legend()), Qt::AlignLeft | Qt::AlignVCenter, tr("%1 of a query's attention").arg(f.percent(1)));
}

// ---- in words -----------------------------------------------------------------------------------------------------------

QString AttentionMap::tokensOf(int cell) const {
  QString text;
  for (int64_t i = maps_.firstOf(cell); i <= maps_.lastOf(cell) && i < static_cast<int64_t>(maps_.pieces.size()); ++i) text += QString::fromStdString(maps_.pieces[static_cast<size_t>(i)]);
  text.replace(QLatin1Char('\n'), QStringLiteral("⏎"));
  const QString place = maps_.firstOf(cell) == maps_.lastOf(cell) ? QString::number(maps_.firstOf(cell)) : tr("%1 to %2").arg(maps_.firstOf(cell)).arg(maps_.lastOf(cell));
  return tr("%1 “%2”").arg(place, text.size() > 40 ? text.left(39) + QStringLiteral("…") : text);
}

QString AttentionMap::describe(int query, int key) const {
  if (!shown() || query < 0 || query >= maps_.cells() || key < 0 || key > query) return {};
  return tr("%1 pays %2 of its attention to %3").arg(tokensOf(query), Format().percent(static_cast<double>(maps_.share(layer_, head_, query, key))), tokensOf(key));
}

}  // namespace winnow
