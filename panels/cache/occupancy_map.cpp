// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/cache/occupancy_map.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QPainter>
#include <QScrollBar>
#include <QToolTip>
#include <algorithm>
#include <cmath>

#include "experiments/format.h"

namespace winnow {
namespace {

constexpr int kTallest = 64, kLowest = 5, kTop = 6;  // px
constexpr double kFullBits = 16;

// Of both keys and values; a row that reads another layer's keys to values of its own has these alone.
double meanBits(const CacheMapRow& row, size_t column) {
  return row.keysOf == row.layer || row.borrowed ? (row.keyBits[column] + row.valueBits[column]) / 2.0 : row.valueBits[column];
}

void addRow(OccupancyLine& line, const CacheMap& map, const CacheMapRow& row, double weight) {
  line.held += weight * static_cast<double>(row.kept);
  for (size_t c = 0; c < row.held.size(); ++c) {
    const double share = row.held[c] / static_cast<double>(map.widthOf(static_cast<int>(c)));
    line.share[c] += static_cast<float>(weight * share);
    line.bits[c] += static_cast<float>(weight * share * meanBits(row, c));
    if (line.valueBits[c] > 0) continue;
    line.keyBits[c] = row.keyBits[c];
    line.valueBits[c] = row.valueBits[c];
  }
}

}  // namespace

std::vector<OccupancyLine> occupancyLines(const CacheMap& map, bool byHead) {
  std::vector<OccupancyLine> lines;
  const auto columns = static_cast<size_t>(map.columns());
  for (const CacheMapRow& row : map.rows) {
    const auto heads = std::ranges::count(map.rows, row.layer, &CacheMapRow::layer);
    if (byHead || lines.empty() || lines.back().layer != row.layer) {
      lines.push_back({row.layer, byHead ? row.kvHead : -1, row.keysOf, 0, {}, {}, {}, {}, row.borrowed});
      OccupancyLine& line = lines.back();
      line.share.resize(columns);
      line.bits.resize(columns);
      line.keyBits.resize(columns);
      line.valueBits.resize(columns);
    }
    addRow(lines.back(), map, row, byHead ? 1.0 : 1.0 / static_cast<double>(heads));
  }
  return lines;
}

OccupancyMap::OccupancyMap(QWidget* parent) : QAbstractScrollArea(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setAccessibleName(tr("Cache by layer and position"));
  setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  viewport()->setBackgroundRole(QPalette::Base);
}

void OccupancyMap::setTheme(const Theme& theme) {
  theme_ = theme;
  render();
}

void OccupancyMap::clear(const QString& emptyText) {
  map_ = {};
  lines_.clear();
  emptyText_ = emptyText;
  line_ = column_ = -1;
  setAccessibleDescription(emptyText);
  measure();
}

void OccupancyMap::setMap(const CacheMap& map, bool byHead) {
  const int64_t chosen = column_ >= 0 ? map_.firstOf(column_) : -1;
  if (byHead != byHead_) line_ = -1;
  map_ = map;
  byHead_ = byHead;
  lines_ = occupancyLines(map, byHead);
  if (line_ >= static_cast<int>(lines_.size())) line_ = -1;
  column_ = line_ >= 0 && chosen >= 0 ? std::min(static_cast<int>(chosen / map.perColumn), map.columns() - 1) : -1;
  if (column_ < 0) line_ = -1;
  setAccessibleDescription(line_ >= 0 ? describe(line_, column_) : tr("%1 rows, %2 positions").arg(lines_.size()).arg(map.position));
  measure();
  render();
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

void OccupancyMap::measure() {
  const QFontMetrics metrics = fontMetrics();
  ticks_ = metrics.height() + 8;
  legend_ = metrics.height() + 14;
  names_ = metrics.horizontalAdvance(tr("layer")) + 14;
  for (const OccupancyLine& line : lines_) names_ = std::max(names_, metrics.horizontalAdvance(nameOf(line)) + 14);
  const int rows = std::max(1, static_cast<int>(lines_.size())), room = std::max(1, viewport()->height() - kTop - ticks_ - legend_);
  row_ = std::clamp(room / rows, kLowest, kTallest);
  const int visible = std::max(1, room / row_);
  verticalScrollBar()->setRange(0, std::max(0, rows - visible));
  verticalScrollBar()->setPageStep(visible);
  viewport()->update();
}

void OccupancyMap::resizeEvent(QResizeEvent* event) {
  QAbstractScrollArea::resizeEvent(event);
  measure();
}

void OccupancyMap::changeEvent(QEvent* event) {
  QAbstractScrollArea::changeEvent(event);
  if (event->type() == QEvent::FontChange || event->type() == QEvent::StyleChange) measure();
}

double OccupancyMap::edge(int column) const {
  return names_ + (viewport()->width() - names_ - 10.0) * column / std::max(1, map_.columns());
}

QRect OccupancyMap::cellRect(int line, int column) const {
  const int left = static_cast<int>(std::lround(edge(column))), right = static_cast<int>(std::lround(edge(column + 1)));
  return {left, kTop + (line - verticalScrollBar()->value()) * row_, std::max(1, right - left), row_};
}

std::optional<std::pair<int, int>> OccupancyMap::at(const QPoint& point) const {
  if (lines_.empty() || point.y() < kTop || point.y() >= viewport()->height() - ticks_ - legend_ || point.x() < names_) return {};
  const int line = (point.y() - kTop) / row_ + verticalScrollBar()->value();
  const int column = static_cast<int>((point.x() - names_) / (edge(1) - edge(0)));
  return line < static_cast<int>(lines_.size()) && column < map_.columns() ? std::optional(std::pair(line, column)) : std::nullopt;
}

QString OccupancyMap::nameOf(const OccupancyLine& line) const {
  return line.kvHead < 0 ? QString::number(line.layer) : QStringLiteral("%1.%2").arg(line.layer).arg(line.kvHead);
}

// ---- painting -----------------------------------------------------------------------------------------------------------

// From the background of what is gone to the accent of what is whole; by the root, since few bits have to differ from none.
QColor OccupancyMap::colourOf(double bits) const {
  const double share = std::sqrt(std::clamp(bits / kFullBits, 0.0, 1.0));
  const auto mix = [share](int none, int all) { return static_cast<int>(std::lround(none + share * (all - none))); };
  const QColor &none = theme_.sunken, &all = theme_.accent;
  return {mix(none.red(), all.red()), mix(none.green(), all.green()), mix(none.blue(), all.blue())};
}

void OccupancyMap::render() {
  cells_ = QImage(std::max(1, map_.columns()), std::max(1, static_cast<int>(lines_.size())), QImage::Format_RGB32);
  for (int y = 0; y < static_cast<int>(lines_.size()); ++y)
    for (int x = 0; x < map_.columns(); ++x) cells_.setPixelColor(x, y, colourOf(static_cast<double>(lines_[static_cast<size_t>(y)].bits[static_cast<size_t>(x)])));
  viewport()->update();
}

void OccupancyMap::paintNames(QPainter& painter) const {
  const int text = fontMetrics().height(), apart = std::max(1, (text + row_ - 1) / row_);
  for (int i = verticalScrollBar()->value(); i < static_cast<int>(lines_.size()); ++i) {
    const OccupancyLine& line = lines_[static_cast<size_t>(i)];
    const QRect row = cellRect(i, 0);
    if (line.shared()) painter.fillRect(QRectF(edge(0), row.top(), edge(map_.columns()) - edge(0), row_), QBrush(theme_.plot, Qt::BDiagPattern));
    if (row_ > 8) painter.fillRect(QRectF(edge(0), row.bottom(), edge(map_.columns()) - edge(0), 1), palette().color(QPalette::Base));
    painter.setPen(theme_.text);
    if (i % apart == 0) painter.drawText(QRect(0, row.top() - text, names_ - 8, row_ + 2 * text), Qt::AlignRight | Qt::AlignVCenter, nameOf(line));
  }
}

void OccupancyMap::paintTicks(QPainter& painter) const {
  const int top = viewport()->height() - legend_ - ticks_;
  const int below = std::min(top, kTop + (static_cast<int>(lines_.size()) - verticalScrollBar()->value()) * row_);
  painter.setPen(theme_.textSecondary);
  const double perPosition = (edge(map_.columns()) - edge(0)) / (static_cast<double>(map_.columns()) * map_.perColumn);
  int64_t step = 1;
  for (int i = 0; static_cast<double>(step) * perPosition < fontMetrics().horizontalAdvance(QStringLiteral("000000")) + 12; ++i) step = i % 3 == 1 ? step / 2 * 5 : step * 2;
  const QString unit = tr("position");
  const double end = viewport()->width() - fontMetrics().horizontalAdvance(unit) - 14;
  for (int64_t position = 0; position < map_.position; position += step) {
    const double x = edge(0) + static_cast<double>(position) * perPosition;
    painter.drawLine(QPointF(x, below + 1), QPointF(x, below + 4));
    const QString label = QString::number(position);
    if (x + fontMetrics().horizontalAdvance(label) < end) painter.drawText(QRectF(x, below + 4, 200, ticks_ - 4), Qt::AlignLeft | Qt::AlignVCenter, label);
  }
  painter.drawText(QRectF(end, below + 4, viewport()->width() - end - 10, ticks_ - 4), Qt::AlignRight | Qt::AlignVCenter, unit);
}

void OccupancyMap::paintLegend(QPainter& painter) const {
  const QFontMetrics metrics = fontMetrics();
  const int top = viewport()->height() - legend_, side = metrics.height() - 3;
  painter.fillRect(QRect(0, top, viewport()->width(), legend_), palette().color(QPalette::Base));
  int x = names_;
  const auto entry = [&](const QColor& fill, bool hatched, const QString& text) {
    const int width = side + 6 + metrics.horizontalAdvance(text);
    if (x + width > viewport()->width() - 4) return;
    const QRect box(x, top + (legend_ - side) / 2, side, side);
    painter.fillRect(box, fill);
    if (hatched) painter.fillRect(box, QBrush(theme_.plot, Qt::BDiagPattern));
    painter.setPen(theme_.border);
    painter.drawRect(box.adjusted(0, 0, -1, -1));
    painter.setPen(theme_.textSecondary);
    painter.drawText(QRect(x + side + 6, top, width, legend_), Qt::AlignLeft | Qt::AlignVCenter, text);
    x += width + 16;
  };
  for (const int bits : {16, 8, 4, 2}) entry(colourOf(bits), false, tr("%1 bits").arg(bits));
  entry(colourOf(0), false, tr("evicted"));
  entry(colourOf(kFullBits), true, tr("reads another layer's keys"));
}

void OccupancyMap::paintEvent(QPaintEvent*) {
  QPainter painter(viewport());
  if (lines_.empty()) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(viewport()->rect().adjusted(12, 10, -12, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, emptyText_);
    return;
  }
  painter.setClipRect(QRect(0, 0, viewport()->width(), viewport()->height() - ticks_ - legend_));
  const QRectF all(edge(0), kTop - verticalScrollBar()->value() * row_, edge(map_.columns()) - edge(0), static_cast<int>(lines_.size()) * row_);
  painter.drawImage(all, cells_);
  paintNames(painter);
  if (line_ >= 0) {
    painter.setBrush(Qt::NoBrush);
    const QRect frame = cellRect(line_, column_).adjusted(-2, -2, 1, 1);
    painter.setPen(QPen(theme_.window, 4));
    painter.drawRect(frame);
    painter.setPen(QPen(hasFocus() ? theme_.accent : theme_.text, 2));
    painter.drawRect(frame);
  }
  painter.setClipping(false);
  paintTicks(painter);
  paintLegend(painter);
}

// ---- pointer and keyboard -----------------------------------------------------------------------------------------------

QString OccupancyMap::describe(int line, int column) const {
  if (line < 0 || line >= static_cast<int>(lines_.size()) || column < 0 || column >= map_.columns()) return {};
  const OccupancyLine& row = lines_[static_cast<size_t>(line)];
  const auto c = static_cast<size_t>(column);
  const int64_t first = map_.firstOf(column), last = first + map_.widthOf(column) - 1;
  QStringList parts{row.kvHead < 0 ? tr("Layer %1").arg(row.layer) : tr("Layer %1, head %2").arg(row.layer).arg(row.kvHead),
                    first == last ? tr("position %1").arg(first) : tr("positions %1 to %2").arg(first).arg(last)};
  const double share = static_cast<double>(row.share[c]);
  parts << (share <= 0 ? tr("evicted") : share >= 1 ? tr("held") : tr("%1 held").arg(Format().percent(share)));
  const bool values = row.shared() && !row.borrowed;
  if (share > 0 && values) parts << tr("values of %1 bits").arg(row.valueBits[c]);
  if (share > 0 && !values) parts << tr("keys of %1 bits, values of %2").arg(row.keyBits[c]).arg(row.valueBits[c]);
  if (row.shared()) parts << (row.borrowed ? tr("shared with layer %1") : tr("keys of layer %1")).arg(row.keysOf);
  return parts.join(QStringLiteral(" · "));
}

void OccupancyMap::choose(int line, int column) {
  line_ = std::clamp(line, 0, static_cast<int>(lines_.size()) - 1);
  column_ = std::clamp(column, 0, map_.columns() - 1);
  QScrollBar* bar = verticalScrollBar();
  bar->setValue(std::clamp(bar->value(), line_ - bar->pageStep() + 1, line_));
  setAccessibleDescription(describe(line_, column_));
  viewport()->update();
}

void OccupancyMap::mousePressEvent(QMouseEvent* event) {
  if (const auto hit = at(event->position().toPoint())) choose(hit->first, hit->second);
}

void OccupancyMap::keyPressEvent(QKeyEvent* event) {
  if (lines_.empty()) return QAbstractScrollArea::keyPressEvent(event);
  switch (event->key()) {
    case Qt::Key_Left: return choose(line_, column_ - 1);
    case Qt::Key_Right: return choose(line_, column_ + 1);
    case Qt::Key_Up: return choose(line_ - 1, column_);
    case Qt::Key_Down: return choose(line_ + 1, column_);
    case Qt::Key_PageUp: return choose(line_ - verticalScrollBar()->pageStep(), column_);
    case Qt::Key_PageDown: return choose(line_ + verticalScrollBar()->pageStep(), column_);
    case Qt::Key_Home: return choose(line_, 0);
    case Qt::Key_End: return choose(line_, map_.columns() - 1);
    default: QAbstractScrollArea::keyPressEvent(event);
  }
}

void OccupancyMap::focusInEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusInEvent(event);
  if (line_ < 0 && !lines_.empty() && event->reason() != Qt::MouseFocusReason) choose(0, 0);
  viewport()->update();
}

void OccupancyMap::focusOutEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusOutEvent(event);
  viewport()->update();
}

bool OccupancyMap::viewportEvent(QEvent* event) {
  if (event->type() != QEvent::ToolTip) return QAbstractScrollArea::viewportEvent(event);
  auto* help = static_cast<QHelpEvent*>(event);
  if (const auto hit = at(help->pos())) QToolTip::showText(help->globalPos(), describe(hit->first, hit->second), this);
  else QToolTip::hideText();
  return true;
}

}  // namespace winnow
