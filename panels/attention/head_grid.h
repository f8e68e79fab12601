// SPDX-License-Identifier: GPL-3.0-or-later
// Every head of a model as a small picture of where it looks: layers below each other, heads side by side.
#pragma once
#include <QAbstractScrollArea>
#include <QImage>
#include <vector>

#include "experiments/attention.h"
#include "panels/theme/theme.h"

namespace winnow {

class HeadGrid : public QAbstractScrollArea {
  Q_OBJECT
 public:
  explicit HeadGrid(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMaps(const AttentionMaps& maps);  // chooses the first head if none is
  void clear(const QString& emptyText);
  QRect headRect(int layer, int head) const;  // in the viewport
  QString describe(int layer, int head) const;
  int layer() const { return layer_; }        // chosen; -1: none
  int head() const { return head_; }
  QSize sizeHint() const override { return {300, 420}; }
  QSize minimumSizeHint() const override { return {160, 160}; }

 Q_SIGNALS:
  void headChosen(int layer, int head);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool viewportEvent(QEvent* event) override;

 private:
  void measure();
  void render();
  void choose(int layer, int head);
  bool hasCells(int layer) const { return !maps_.at(layer, 0).cells.empty(); }
  std::pair<int, int> at(const QPoint& point) const;  // {-1, -1}: none

  Theme theme_ = Theme::builtIn(false);
  AttentionMaps maps_;
  std::vector<QImage> pictures_;  // [layers][heads]; null where there is nothing
  int layer_ = -1, head_ = -1;
  int names_ = 30, top_ = 22, side_ = 40;  // px
  QString emptyText_;
};

}  // namespace winnow
