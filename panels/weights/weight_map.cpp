// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/weight_map.h"

#include <QHelpEvent>
#include <QKeyEvent>
#include <QPainter>
#include <QScrollBar>
#include <QToolTip>
#include <algorithm>
#include <cmath>
#include <limits>

#include "panels/theme/heat.h"

namespace winnow {
namespace {
constexpr TensorRole kColumns[] = {TensorRole::q, TensorRole::k, TensorRole::v, TensorRole::o, TensorRole::gate, TensorRole::up, TensorRole::down,
                                     TensorRole::attnShortcut, TensorRole::ffnShortcut};
constexpr int kTallest = 34, kWidest = 132;  // px
}  // namespace

WeightMap::WeightMap(QWidget* parent) : QAbstractScrollArea(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setAccessibleName(tr("Weights by layer and matrix"));
  setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  viewport()->setBackgroundRole(QPalette::Base);
  viewport()->setAutoFillBackground(true);
}

void WeightMap::setTheme(const Theme& theme) {
  theme_ = theme;
  viewport()->update();
}

void WeightMap::clear(const QString& emptyText) {
  report_ = {};
  rows_.clear();
  emptyText_ = emptyText;
  setAccessibleDescription(emptyText);
  measure();
}

void WeightMap::setReport(const WeightReport& report, WeightQuantity quantity) {
  report_ = report;
  quantity_ = quantity;
  rows_.clear();
  columns_.clear();
  low_ = std::numeric_limits<double>::infinity();
  high_ = -low_;
  std::vector<Row> outside;
  for (const TensorRole role : kColumns)
    if (std::ranges::any_of(report.tensors, [role](const TensorReport& row) { return row.role == role; })) columns_.push_back(role);
  for (int layer = 0; layer < report.layers; ++layer) rows_.push_back({QString::number(layer), std::vector<int>(columns_.size(), -1)});
  for (size_t i = 0; i < report.tensors.size(); ++i) {
    const TensorReport& row = report.tensors[i];
    const auto value = quantityOf(row, quantity);
    if (value && std::isfinite(*value)) {
      low_ = std::min(low_, *value);
      high_ = std::max(high_, *value);
    }
    if (row.layer < 0) outside.push_back({roleLabel(row.role), {static_cast<int>(i)}});
    else rows_[static_cast<size_t>(row.layer)].cells[static_cast<size_t>(std::ranges::find(columns_, row.role) - columns_.begin())] = static_cast<int>(i);
  }
  for (Row& row : outside)  // where a token passes them: embeddings first, the head last
    report.tensors[static_cast<size_t>(row.cells[0])].role == TensorRole::head ? rows_.push_back(row) : static_cast<void>(rows_.insert(rows_.begin(), row));
  if (!(low_ <= high_)) low_ = 0, high_ = 1;
  setAccessibleDescription(chosen_ >= 0 ? describe(chosen_) : quantityMeaning(quantity));
  measure();
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

void WeightMap::measure() {
  const QFontMetrics metrics = fontMetrics();
  head_ = metrics.height() + 8;
  legend_ = metrics.height() + 16;
  names_ = metrics.horizontalAdvance(QStringLiteral("00"));
  for (const Row& row : rows_) names_ = std::max(names_, metrics.horizontalAdvance(row.name));
  names_ += 18;
  const int rows = std::max(1, static_cast<int>(rows_.size())), room = viewport()->height() - head_ - legend_;
  line_ = std::clamp(room / rows, metrics.height() + 4, kTallest);
  const int columns = std::max(1, static_cast<int>(columns_.size()));
  cell_ = std::clamp((viewport()->width() - names_ - 6) / columns, 24, kWidest);
  const int visible = std::max(1, room / line_);
  verticalScrollBar()->setRange(0, std::max(0, rows - visible));
  verticalScrollBar()->setPageStep(visible);
  viewport()->update();
}

void WeightMap::resizeEvent(QResizeEvent* event) {
  QAbstractScrollArea::resizeEvent(event);
  measure();
}

void WeightMap::changeEvent(QEvent* event) {
  QAbstractScrollArea::changeEvent(event);
  if (event->type() == QEvent::FontChange || event->type() == QEvent::StyleChange) measure();
}

QRect WeightMap::box(int row, int column) const {
  const int top = head_ + (row - verticalScrollBar()->value()) * line_;
  if (rows_[static_cast<size_t>(row)].cells.size() == 1 && columns_.size() > 1) return {names_, top, cell_ * static_cast<int>(columns_.size()), line_};
  return {names_ + column * cell_, top, cell_, line_};
}

int WeightMap::indexOf(int tensor) const {
  const auto found = std::ranges::find(report_.tensors, tensor, &TensorReport::tensor);
  return found == report_.tensors.end() ? -1 : static_cast<int>(found - report_.tensors.begin());
}

std::pair<int, int> WeightMap::placeOf(int index) const {
  for (size_t r = 0; r < rows_.size() && index >= 0; ++r)
    for (size_t c = 0; c < rows_[r].cells.size(); ++c)
      if (rows_[r].cells[c] == index) return {static_cast<int>(r), static_cast<int>(c)};
  return {-1, -1};
}

QRect WeightMap::cellRect(int tensor) const {
  const auto [row, column] = placeOf(indexOf(tensor));
  return row < 0 ? QRect() : box(row, column);
}

int WeightMap::at(const QPoint& point) const {
  if (point.y() < head_ || point.y() > viewport()->height() - legend_ || point.x() < names_) return -1;
  const int row = (point.y() - head_) / line_ + verticalScrollBar()->value();
  if (row < 0 || row >= static_cast<int>(rows_.size())) return -1;
  const auto& cells = rows_[static_cast<size_t>(row)].cells;
  const int column = (point.x() - names_) / cell_;
  if (column >= static_cast<int>(columns_.size())) return -1;
  return cells.size() == 1 ? cells[0] : cells[static_cast<size_t>(column)];
}

// ---- painting -----------------------------------------------------------------------------------------------------------

double WeightMap::shareOf(double value) const { return high_ > low_ ? std::clamp((value - low_) / (high_ - low_), 0.0, 1.0) : 0.5; }

void WeightMap::paintCell(QPainter& painter, const QRect& cell, const TensorReport& row) const {
  const auto value = quantityOf(row, quantity_);
  QColor ink = theme_.textSecondary;
  if (value && std::isfinite(*value)) {
    const QColor fill = Theme::sequential(shareOf(*value));
    painter.fillRect(cell, fill);
    ink = inkOn(fill);
  } else {
    painter.fillRect(cell, theme_.sunken);
    if (value) painter.fillRect(cell, QBrush(theme_.border, Qt::BDiagPattern));
  }
  painter.setPen(ink);
  const QString full = quantityText(value, quantity_), brief = quantityShort(value, quantity_);
  const bool fits = fontMetrics().horizontalAdvance(full) + 8 <= cell.width();
  if (fits || fontMetrics().horizontalAdvance(brief) + 4 <= cell.width()) painter.drawText(cell, Qt::AlignCenter, fits ? full : brief);
}

void WeightMap::paintLegend(QPainter& painter) const {
  const int top = viewport()->height() - legend_;
  painter.fillRect(QRect(0, top, viewport()->width(), legend_), palette().color(QPalette::Base));
  paintHeatLegend(painter, theme_, QRect(names_, top, viewport()->width() - names_, legend_), quantityText(low_, quantity_), quantityText(high_, quantity_));
}

void WeightMap::paintEvent(QPaintEvent*) {
  QPainter painter(viewport());
  if (rows_.empty()) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(viewport()->rect().adjusted(12, 10, -12, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, emptyText_);
    return;
  }
  painter.setClipRect(QRect(0, head_, viewport()->width(), viewport()->height() - head_ - legend_));
  for (int r = verticalScrollBar()->value(); r < static_cast<int>(rows_.size()) && box(r, 0).top() < viewport()->height() - legend_; ++r) {
    const Row& row = rows_[static_cast<size_t>(r)];
    painter.setPen(theme_.text);
    painter.drawText(QRect(0, box(r, 0).top(), names_ - 8, line_), Qt::AlignRight | Qt::AlignVCenter, row.name);
    for (size_t c = 0; c < row.cells.size(); ++c)
      if (row.cells[c] >= 0) paintCell(painter, box(r, static_cast<int>(c)).adjusted(0, 0, -1, -1), report_.tensors[static_cast<size_t>(row.cells[c])]);
  }
  if (const QRect frame = cellRect(chosen_); !frame.isNull()) {
    painter.setBrush(Qt::NoBrush);
    painter.setPen(QPen(theme_.window, 4));
    painter.drawRect(frame.adjusted(1, 1, -2, -2));
    painter.setPen(QPen(hasFocus() ? theme_.accent : theme_.text, 2));
    painter.drawRect(frame.adjusted(1, 1, -2, -2));
  }
  painter.setClipping(false);
  painter.setPen(theme_.textSecondary);
  painter.drawText(QRect(0, 0, names_ - 8, head_), Qt::AlignRight | Qt::AlignVCenter, tr("layer"));
  for (size_t c = 0; c < columns_.size(); ++c)
    painter.drawText(QRect(names_ + static_cast<int>(c) * cell_, 0, cell_, head_), Qt::AlignCenter, fontMetrics().elidedText(roleLabel(columns_[c]), Qt::ElideMiddle, cell_));
  paintLegend(painter);
}

// ---- pointer and keyboard -----------------------------------------------------------------------------------------------

QString WeightMap::describe(int tensor) const {
  const int index = indexOf(tensor);
  if (index < 0) return {};
  const TensorReport& row = report_.tensors[static_cast<size_t>(index)];
  return tr("%1, %2: %3 %4").arg(matrixLabel(row), QString::fromStdString(row.format), quantityName(quantity_), quantityText(quantityOf(row, quantity_), quantity_));
}

void WeightMap::setChosen(int tensor) {
  chosen_ = tensor;
  const auto [row, column] = placeOf(indexOf(tensor));
  if (row >= 0) {
    if (row < verticalScrollBar()->value()) verticalScrollBar()->setValue(row);
    if (row >= verticalScrollBar()->value() + verticalScrollBar()->pageStep()) verticalScrollBar()->setValue(row - verticalScrollBar()->pageStep() + 1);
    setAccessibleDescription(describe(tensor));
  }
  viewport()->update();
}

void WeightMap::choose(int index) {
  if (index < 0 || report_.tensors[static_cast<size_t>(index)].tensor == chosen_) return;
  setChosen(report_.tensors[static_cast<size_t>(index)].tensor);
  Q_EMIT tensorChosen(chosen_);
}

void WeightMap::mousePressEvent(QMouseEvent* event) {
  if (event->button() == Qt::LeftButton) choose(at(event->position().toPoint()));
}

void WeightMap::keyPressEvent(QKeyEvent* event) {
  auto [row, column] = placeOf(indexOf(chosen_));
  const int rows = static_cast<int>(rows_.size()), last = static_cast<int>(columns_.size()) - 1;
  if (rows == 0) return QAbstractScrollArea::keyPressEvent(event);
  switch (event->key()) {
    case Qt::Key_Left: --column; break;
    case Qt::Key_Right: ++column; break;
    case Qt::Key_Up: --row; break;
    case Qt::Key_Down: ++row; break;
    case Qt::Key_PageUp: row -= verticalScrollBar()->pageStep(); break;
    case Qt::Key_PageDown: row += verticalScrollBar()->pageStep(); break;
    case Qt::Key_Home: column = 0; break;
    case Qt::Key_End: column = last; break;
    default: return QAbstractScrollArea::keyPressEvent(event);
  }
  const auto& cells = rows_[static_cast<size_t>(std::clamp(row, 0, rows - 1))].cells;
  choose(cells[static_cast<size_t>(std::clamp(column, 0, static_cast<int>(cells.size()) - 1))]);
}

void WeightMap::focusInEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusInEvent(event);
  if (chosen_ < 0 && !rows_.empty() && event->reason() != Qt::MouseFocusReason) choose(rows_[0].cells[0]);
  viewport()->update();
}

void WeightMap::focusOutEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusOutEvent(event);
  viewport()->update();
}

bool WeightMap::viewportEvent(QEvent* event) {
  if (event->type() != QEvent::ToolTip) return QAbstractScrollArea::viewportEvent(event);
  auto* help = static_cast<QHelpEvent*>(event);
  const int index = at(help->pos());
  if (index < 0) QToolTip::hideText();
  else QToolTip::showText(help->globalPos(), describe(report_.tensors[static_cast<size_t>(index)].tensor), this);
  return true;
}

}  // namespace winnow
