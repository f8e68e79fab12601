// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/token_matrix.h"

#include <QAccessible>
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
constexpr int kHeadLimit = 96, kNamesLimit = 300, kNamesLeast = 90;  // px
constexpr float kSigned = 0.15f;                                     // of the scale: from here a cell bears its sign
}  // namespace

TokenMatrix::TokenMatrix(QWidget* parent) : QAbstractScrollArea(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setAccessibleName(tr("Scores by source and answer token"));
  viewport()->setMouseTracking(true);
  viewport()->setBackgroundRole(QPalette::Base);
  viewport()->setAutoFillBackground(true);
  scale_ = scoreScale(0, 0);
}

void TokenMatrix::setTheme(const Theme& theme) {
  theme_ = theme;
  viewport()->update();
}

void TokenMatrix::setData(MatrixData data) {
  data_ = std::move(data);
  float largest = 0;
  for (const auto& row : data_.cells)
    for (const float value : row)
      if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
  scale_ = scoreScale(largest, 0);
  scale_.unit = data_.unit;
  if (data_.unit != QStringLiteral("nat")) scale_.high = std::max(largest, 1e-6f);  // no log-probabilities: their own scale
  row_ = std::min(row_, rowCount() - 1);
  column_ = std::min(column_, columnCount() - 1);
  chosen_ = chosen_ < rowCount() ? chosen_ : -1;
  if (last_ >= columnCount()) first_ = last_ = -1;
  measure();
}

void TokenMatrix::setEmptyText(const QString& sentence) {
  emptyText_ = sentence;
  viewport()->update();
}

void TokenMatrix::setChosenRow(int row) {
  if (row == chosen_) return;
  chosen_ = row;
  if (row >= 0 && row < rowCount()) {
    const QRect box = cellRect(row, 0);
    if (box.top() < head_) verticalScrollBar()->setValue(row);
    if (box.bottom() > viewport()->height())
      verticalScrollBar()->setValue(verticalScrollBar()->value() + (box.bottom() - viewport()->height()) / line_ + 1);
  }
  viewport()->update();
}

void TokenMatrix::setLitRow(int row) {
  if (row == lit_) return;
  lit_ = row;
  viewport()->update();
}

void TokenMatrix::setSpan(int first, int last) {
  if (first == first_ && last == last_) return;
  first_ = first;
  last_ = last;
  viewport()->update();
}

bool TokenMatrix::isNoise(int row, int column) const {
  const auto at = static_cast<size_t>(column);
  return at < data_.noise.size() && std::fabs(data_.cells[static_cast<size_t>(row)][at]) <= data_.noise[at];
}

// ---- geometry -----------------------------------------------------------------------------------------------------------

void TokenMatrix::measure() {
  const QFontMetrics metrics = fontMetrics();
  line_ = metrics.height() + 4;
  cell_ = std::max(18, metrics.horizontalAdvance(QLatin1Char('+')) + 8);
  head_ = 0;
  for (const QString& column : data_.columns) head_ = std::max(head_, metrics.horizontalAdvance(column.simplified()) + 12);
  head_ = std::clamp(head_, line_, kHeadLimit);
  names_ = 0;
  for (const QString& row : data_.rows) names_ = std::max(names_, metrics.horizontalAdvance(row) + 16);
  names_ = std::clamp(names_, kNamesLeast, std::max(kNamesLeast, std::min(kNamesLimit, viewport()->width() * 2 / 5)));
  // Few tokens share the width there is.
  if (columnCount() > 0) cell_ = std::clamp((viewport()->width() - names_ - 2) / columnCount(), cell_, 2 * cell_);
  const int rows = std::max(1, (viewport()->height() - head_) / line_), columns = std::max(1, (viewport()->width() - names_) / cell_);
  verticalScrollBar()->setRange(0, std::max(0, rowCount() - rows));
  verticalScrollBar()->setPageStep(rows);
  horizontalScrollBar()->setRange(0, std::max(0, columnCount() - columns));
  horizontalScrollBar()->setPageStep(columns);
  viewport()->update();
}

void TokenMatrix::resizeEvent(QResizeEvent* event) {
  QAbstractScrollArea::resizeEvent(event);
  measure();
}

void TokenMatrix::changeEvent(QEvent* event) {
  QAbstractScrollArea::changeEvent(event);
  if (event->type() == QEvent::FontChange || event->type() == QEvent::StyleChange) measure();
}

QRect TokenMatrix::cellRect(int row, int column) const {
  return {names_ + (column - horizontalScrollBar()->value()) * cell_, head_ + (row - verticalScrollBar()->value()) * line_, cell_, line_};
}

std::pair<int, int> TokenMatrix::cellAt(const QPoint& point) const {
  const int column = point.x() < names_ ? -1 : (point.x() - names_) / cell_ + horizontalScrollBar()->value();
  const int row = point.y() < head_ ? -1 : (point.y() - head_) / line_ + verticalScrollBar()->value();
  return {row >= rowCount() ? -2 : row, column >= columnCount() ? -2 : column};
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void TokenMatrix::paintEvent(QPaintEvent*) {
  QPainter painter(viewport());
  if (data_.cells.empty() || columnCount() == 0) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(viewport()->rect().adjusted(12, 10, -12, -10), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap, emptyText_);
    return;
  }
  painter.save();
  painter.setClipRect(QRect(names_, head_, viewport()->width() - names_, viewport()->height() - head_));
  paintCells(painter);
  painter.restore();
  paintNames(painter);
  paintHead(painter);
  paintFrames(painter);
}

void TokenMatrix::paintCell(QPainter& painter, const QRect& box, int row, int column) const {
  const auto& cells = data_.cells[static_cast<size_t>(row)];
  if (cells.empty()) return painter.fillRect(box, QBrush(theme_.border, Qt::BDiagPattern));
  if (column >= static_cast<int>(cells.size()) || isNoise(row, column)) return;
  const auto position = scale_.position(cells[static_cast<size_t>(column)]);
  if (!position) return;
  painter.fillRect(box, flowBackground(*position, theme_));
  if (std::fabs(*position) < kSigned) return;
  painter.setPen(theme_.text);
  painter.drawText(box, Qt::AlignCenter, *position > 0 ? QStringLiteral("+") : QStringLiteral("−"));
}

void TokenMatrix::paintCells(QPainter& painter) {
  const int rowEnd = std::min(rowCount(), verticalScrollBar()->value() + (viewport()->height() - head_) / line_ + 2);
  const int columnEnd = std::min(columnCount(), horizontalScrollBar()->value() + (viewport()->width() - names_) / cell_ + 2);
  for (int row = verticalScrollBar()->value(); row < rowEnd; ++row)
    for (int column = horizontalScrollBar()->value(); column < columnEnd; ++column)
      paintCell(painter, cellRect(row, column).adjusted(0, 0, -1, -1), row, column);
}

void TokenMatrix::paintNames(QPainter& painter) {
  const int rowEnd = std::min(rowCount(), verticalScrollBar()->value() + (viewport()->height() - head_) / line_ + 2);
  for (int row = verticalScrollBar()->value(); row < rowEnd; ++row) {
    const QRect box(0, cellRect(row, 0).top(), names_, line_);
    if (row == chosen_ || row == lit_) painter.fillRect(box.adjusted(0, 0, -2, -1), row == chosen_ ? theme_.selection : theme_.hover);
    painter.setPen(data_.cells[static_cast<size_t>(row)].empty() ? theme_.textSecondary : theme_.text);
    painter.drawText(box.adjusted(8, 0, -8, 0), Qt::AlignLeft | Qt::AlignVCenter,
                     fontMetrics().elidedText(data_.rows[row], Qt::ElideRight, names_ - 16));
  }
}

void TokenMatrix::paintHead(QPainter& painter) {
  painter.fillRect(QRect(0, 0, viewport()->width(), head_), palette().color(QPalette::Base));
  const int columnEnd = std::min(columnCount(), horizontalScrollBar()->value() + (viewport()->width() - names_) / cell_ + 2);
  for (int column = horizontalScrollBar()->value(); column < columnEnd; ++column) {
    const QRect box(cellRect(0, column).left(), 0, cell_, head_);
    if (box.left() < names_) continue;
    const bool inSpan = first_ >= 0 && column >= first_ && column <= last_;
    if (inSpan || column == column_) painter.fillRect(box.adjusted(0, 0, -1, -1), inSpan ? theme_.selection : theme_.hover);
    painter.save();
    painter.translate(box.center().x() + fontMetrics().ascent() / 2 - 1, head_ - 5);
    painter.rotate(-90);
    painter.setPen(first_ < 0 || inSpan ? theme_.text : theme_.textSecondary);
    painter.drawText(0, 0, fontMetrics().elidedText(data_.columns[column].simplified(), Qt::ElideRight, head_ - 8));
    painter.restore();
  }
  painter.setPen(theme_.border);
  painter.drawLine(0, head_ - 1, viewport()->width(), head_ - 1);
}

void TokenMatrix::paintFrames(QPainter& painter) {
  painter.setClipRect(QRect(names_ - 1, 0, viewport()->width() - names_ + 1, viewport()->height()));
  painter.setBrush(Qt::NoBrush);
  const int bottom = std::min(cellRect(rowCount(), 0).top(), viewport()->height());
  if (first_ >= 0) {
    painter.setPen(QPen(theme_.accent, 2));
    const int left = cellRect(0, first_).left(), right = cellRect(0, last_ + 1).left();
    painter.drawLine(left, head_, left, bottom);
    painter.drawLine(right - 1, head_, right - 1, bottom);
  }
  painter.setClipRect(QRect(0, head_, viewport()->width(), viewport()->height() - head_));
  if (chosen_ >= 0) {
    painter.setPen(QPen(theme_.accent, 2));
    const QRect box = cellRect(chosen_, 0);
    const int right = std::min(cellRect(0, columnCount()).left(), viewport()->width());
    painter.drawRect(QRect(1, box.top(), right - 2, line_ - 1));
  }
  if (row_ >= 0 && column_ >= 0 && (hasFocus() || underMouse())) {
    painter.setPen(QPen(theme_.text, 1.5));
    painter.drawRect(cellRect(row_, column_).adjusted(0, 0, -1, -1));
  }
}

// ---- pointer and keyboard -----------------------------------------------------------------------------------------------

QString TokenMatrix::describe(int row, int column) const {
  if (row < 0 || row >= rowCount() || column < 0 || column >= columnCount()) return {};
  const QString token = data_.columns[column].simplified(), source = data_.rows[row];
  const auto& cells = data_.cells[static_cast<size_t>(row)];
  if (cells.empty() || column >= static_cast<int>(cells.size())) return tr("“%1”, %2: not evaluated").arg(token, source);
  const double value = static_cast<double>(cells[static_cast<size_t>(column)]);
  const QString noise = isNoise(row, column) ? tr(" (noise)") : QString();
  return tr("“%1” owes %2%3 to %4")
      .arg(token, (value > 0 ? QStringLiteral("+") : QString()) + Format().value(value, data_.unit), noise, source);
}

void TokenMatrix::moveTo(int row, int column, bool reveal) {
  if (row == row_ && column == column_) return;
  row_ = row;
  column_ = column;
  if (reveal && row >= 0) {
    const QRect box = cellRect(row, column);
    if (box.top() < head_) verticalScrollBar()->setValue(row);
    if (box.bottom() > viewport()->height()) verticalScrollBar()->setValue(row - verticalScrollBar()->pageStep() + 1);
    if (box.left() < names_) horizontalScrollBar()->setValue(column);
    if (box.right() > viewport()->width()) horizontalScrollBar()->setValue(column - horizontalScrollBar()->pageStep() + 1);
  }
  setAccessibleDescription(describe(row, column));
  viewport()->update();
  Q_EMIT currentChanged(row, column);
}

void TokenMatrix::extend(int column) {
  column = std::clamp(column, 0, std::max(0, columnCount() - 1));
  first_ = std::min(anchor_, column);
  last_ = std::max(anchor_, column);
  viewport()->update();
  Q_EMIT spanChosen(first_, last_);
}

void TokenMatrix::mouseMoveEvent(QMouseEvent* event) {
  const auto [row, column] = cellAt(event->position().toPoint());
  if (dragFrom_ >= 0 && column >= 0) return extend(column);
  moveTo(row >= 0 && column >= 0 ? row : -1, row >= 0 && column >= 0 ? column : -1, false);
  setLitRow(row >= 0 ? row : -1);
}

void TokenMatrix::mousePressEvent(QMouseEvent* event) {
  if (event->button() != Qt::LeftButton || data_.cells.empty()) return;
  const auto [row, column] = cellAt(event->position().toPoint());
  if (row == -1 && column >= 0) {
    if (!(event->modifiers() & Qt::ShiftModifier) || anchor_ < 0) anchor_ = column;
    dragFrom_ = column;
    return extend(column);
  }
  if (row < 0) return;
  setChosenRow(row);
  Q_EMIT rowChosen(row);
}

void TokenMatrix::mouseReleaseEvent(QMouseEvent*) { dragFrom_ = -1; }

void TokenMatrix::keyPressEvent(QKeyEvent* event) {
  if (data_.cells.empty() || columnCount() == 0) return QAbstractScrollArea::keyPressEvent(event);
  const int row = std::max(row_, 0), column = std::max(column_, 0);
  const bool select = event->modifiers() & Qt::ShiftModifier;
  const auto go = [&](int toRow, int toColumn) {
    toRow = std::clamp(toRow, 0, rowCount() - 1);
    toColumn = std::clamp(toColumn, 0, columnCount() - 1);
    if (select) {
      if (first_ < 0) anchor_ = column;
      moveTo(toRow, toColumn, true);
      return extend(toColumn);
    }
    moveTo(toRow, toColumn, true);
  };
  switch (event->key()) {
    case Qt::Key_Left: return go(row, column - 1);
    case Qt::Key_Right: return go(row, column + 1);
    case Qt::Key_Up: return go(row - 1, column);
    case Qt::Key_Down: return go(row + 1, column);
    case Qt::Key_Home: return go(row, 0);
    case Qt::Key_End: return go(row, columnCount() - 1);
    case Qt::Key_PageUp: return go(row - verticalScrollBar()->pageStep(), column);
    case Qt::Key_PageDown: return go(row + verticalScrollBar()->pageStep(), column);
    case Qt::Key_Return:
    case Qt::Key_Enter:
    case Qt::Key_Space:
      setChosenRow(row);
      Q_EMIT rowChosen(row);
      return;
    case Qt::Key_Escape:
      if (first_ < 0) break;
      first_ = last_ = anchor_ = -1;
      viewport()->update();
      Q_EMIT spanChosen(-1, -1);
      return;
    default: break;
  }
  QAbstractScrollArea::keyPressEvent(event);
}

void TokenMatrix::focusInEvent(QFocusEvent* event) {
  QAbstractScrollArea::focusInEvent(event);
  if (row_ < 0 && rowCount() > 0 && columnCount() > 0 && event->reason() != Qt::MouseFocusReason) moveTo(std::max(chosen_, 0), 0, true);
}

bool TokenMatrix::viewportEvent(QEvent* event) {
  if (event->type() == QEvent::Leave) {
    setLitRow(-1);
    if (!hasFocus()) moveTo(-1, -1, false);
  }
  if (event->type() == QEvent::ToolTip) {
    auto* help = static_cast<QHelpEvent*>(event);
    const auto [row, column] = cellAt(help->pos());
    const QString text = row >= 0 && column == -1 && row < rowCount() ? data_.rows[row] : describe(row, column);
    if (text.isEmpty()) QToolTip::hideText();
    else QToolTip::showText(help->globalPos(), text.toHtmlEscaped(), this);
    return true;
  }
  return QAbstractScrollArea::viewportEvent(event);
}

}  // namespace winnow
