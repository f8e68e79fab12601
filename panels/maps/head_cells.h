// SPDX-License-Identifier: GPL-3.0-or-later
// Heads of a model as cells, layers below each other and heads side by side: which one the pointer or the keyboard chooses, what is told of it and
// how it comes into view. What a cell shows, and where cells begin, is said by who derives.
#pragma once
#include <QAbstractScrollArea>
#include <utility>

#include "panels/theme/theme.h"

namespace winnow {

class HeadCells : public QAbstractScrollArea {
 public:
  explicit HeadCells(QWidget* parent);
  virtual QString describe(int layer, int head) const = 0;
  int layer() const { return layer_; }  // chosen; -1: none
  int head() const { return head_; }

 protected:
  virtual void measure() = 0;  // sets the cells, and the ranges of the scroll bars
  virtual std::pair<int, int> extent() const = 0;  // layers, heads
  virtual int firstHead() const { return 0; }      // -1: a layer can be chosen as a whole, left of its heads
  virtual void told(int layer, int head) = 0;      // these were chosen
  void choose(int layer, int head);
  void choseNothing() { layer_ = head_ = -1; }
  std::pair<int, int> at(const QPoint& point) const;  // {-1, -1}: none
  QRect cell(int layer, int head) const;              // in the viewport, with its gap
  QColor frameColour() const;                         // of what is chosen

  void resizeEvent(QResizeEvent* event) override;
  void changeEvent(QEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool viewportEvent(QEvent* event) override;

  Theme theme_ = Theme::builtIn(false);
  int left_ = 30, top_ = 22, bottom_ = 0;      // px that stay while cells scroll
  int cellWidth_ = 40, cellHeight_ = 40;       // px
  int layer_ = -1, head_ = -1;
};

}  // namespace winnow
