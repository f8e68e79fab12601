// SPDX-License-Identifier: GPL-3.0-or-later
// A map of cells on and below a diagonal, of which one is chosen by pointer or keyboard and told of in words. What the cells are is the
// business of those who derive from it.
#pragma once
#include <QWidget>
#include <optional>
#include <utility>

#include "panels/theme/theme.h"

class QPainter;

namespace winnow {

class TriangleMap : public QWidget {
  Q_OBJECT
 public:
  explicit TriangleMap(QWidget* parent = nullptr);
  virtual QString describe(int row, int column) const = 0;   // empty where there is no cell
  virtual QRect cellRect(int row, int column) const = 0;     // null where there is none

 Q_SIGNALS:
  void cellChosen(const QString& description);

 protected:
  virtual int rows() const = 0;  // 0: there is nothing to choose
  virtual std::optional<std::pair<int, int>> at(const QPoint& point) const = 0;
  bool anyChosen() const { return row_ >= 0; }
  void chooseNothing() { row_ = column_ = -1; }
  // What is chosen, in words, or `otherwise`.
  void describeChosen(const QString& otherwise) { setAccessibleDescription(anyChosen() ? describe(row_, column_) : otherwise); }
  void paintEmpty(QPainter& painter, const QString& text) const;

  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool event(QEvent* event) override;

  Theme theme_ = Theme::builtIn(false);
  int row_ = -1, column_ = -1;  // chosen

 private:
  void choose(int row, int column);
};

}  // namespace winnow
