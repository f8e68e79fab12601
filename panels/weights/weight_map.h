// SPDX-License-Identifier: GPL-3.0-or-later
// Layers against matrices as a heat map, in one quantity of a weight report. Every cell bears its number: colour is not the only channel.
#pragma once
#include <QAbstractScrollArea>
#include <vector>

#include "panels/theme/theme.h"
#include "panels/weights/quantity.h"

namespace winnow {

class WeightMap : public QAbstractScrollArea {
  Q_OBJECT
 public:
  explicit WeightMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setReport(const WeightReport& report, WeightQuantity quantity);
  void clear(const QString& emptyText);
  void setChosen(int tensor);   // framed; emits nothing
  int chosen() const { return chosen_; }
  QRect cellRect(int tensor) const;  // in the viewport; null where the tensor has none
  QString describe(int tensor) const;
  QSize sizeHint() const override { return {420, 320}; }
  QSize minimumSizeHint() const override { return {240, 140}; }

 Q_SIGNALS:
  void tensorChosen(int tensor);  // pointer or keyboard

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  void changeEvent(QEvent* event) override;
  bool viewportEvent(QEvent* event) override;

 private:
  struct Row {
    QString name;
    std::vector<int> cells;  // [columns] indices of the report's rows, -1 = none; one cell: it spans all columns
  };
  void measure();
  QRect box(int row, int column) const;
  int at(const QPoint& point) const;  // index of the report's rows; -1 = none
  int indexOf(int tensor) const;
  std::pair<int, int> placeOf(int index) const;
  void choose(int index);
  void paintCell(QPainter& painter, const QRect& cell, const TensorReport& row) const;
  void paintLegend(QPainter& painter) const;
  double shareOf(double value) const;

  Theme theme_ = Theme::builtIn(false);
  WeightReport report_;
  WeightQuantity quantity_ = WeightQuantity::sqnr;
  std::vector<TensorRole> columns_;
  std::vector<Row> rows_;
  double low_ = 0, high_ = 1;
  int chosen_ = -1;
  int names_ = 70, head_ = 24, cell_ = 48, line_ = 22, legend_ = 34;  // px
  QString emptyText_;
};

}  // namespace winnow
