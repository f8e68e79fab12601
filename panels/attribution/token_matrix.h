// SPDX-License-Identifier: GPL-3.0-or-later
// Scores per source and response token as a heat map: rows are sources, columns the tokens of the answer. A row answers what a source
// supported, a column what a token rests on. Colour by sign, repeated as a sign in the cell; noise stays unpainted.
#pragma once
#include <QAbstractScrollArea>
#include <QStringList>
#include <vector>

#include "panels/text/flow_colours.h"

namespace winnow {

struct MatrixData {
  QStringList rows, columns;              // sources and tokens, as they are named beside the map
  std::vector<std::vector<float>> cells;  // [rows][columns], nats; an empty row was not evaluated
  std::vector<float> noise;               // of each token; empty = none
  QString unit = QStringLiteral("nat");
};

class TokenMatrix : public QAbstractScrollArea {
  Q_OBJECT
 public:
  explicit TokenMatrix(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setData(MatrixData data);
  const MatrixData& data() const { return data_; }
  void setEmptyText(const QString& sentence);
  void setChosenRow(int row);         // framed; -1 = none. Emits nothing.
  void setLitRow(int row);            // under the pointer somewhere else
  void setSpan(int first, int last);  // columns; -1, -1 = all. Emits nothing.
  std::pair<int, int> current() const { return {row_, column_}; }
  const FlowScale& scale() const { return scale_; }
  QRect cellRect(int row, int column) const;  // in the viewport
  QString describe(int row, int column) const;

 Q_SIGNALS:
  void currentChanged(int row, int column);  // pointer or keyboard; -1, -1 = left
  void rowChosen(int row);                   // clicked, or Enter
  void spanChosen(int first, int last);      // dragged along the head, or Shift and arrows; -1, -1 = all

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void mouseReleaseEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void changeEvent(QEvent* event) override;
  bool viewportEvent(QEvent* event) override;

 private:
  int rowCount() const { return static_cast<int>(data_.rows.size()); }
  int columnCount() const { return static_cast<int>(data_.columns.size()); }
  bool isNoise(int row, int column) const;
  void measure();
  std::pair<int, int> cellAt(const QPoint& point) const;  // row -1: the head; column -1: the names
  void moveTo(int row, int column, bool reveal);
  void extend(int column);
  void paintCells(QPainter& painter);
  void paintCell(QPainter& painter, const QRect& box, int row, int column) const;
  void paintNames(QPainter& painter);
  void paintHead(QPainter& painter);
  void paintFrames(QPainter& painter);

  Theme theme_ = Theme::builtIn(false);
  MatrixData data_;
  FlowScale scale_;
  QString emptyText_;
  int names_ = 160, head_ = 60, cell_ = 20, line_ = 20;  // px
  int row_ = -1, column_ = -1, chosen_ = -1, lit_ = -1;
  int first_ = -1, last_ = -1, dragFrom_ = -1, anchor_ = -1;
};

}  // namespace winnow
