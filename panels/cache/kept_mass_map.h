// SPDX-License-Identifier: GPL-3.0-or-later
// The share of attention that a cache setting keeps: a row for each layer, as a bar of its mean with a mark at the share of positions held,
// and a cell for each head.
#pragma once
#include <QAbstractScrollArea>

#include "experiments/kept_mass.h"
#include "panels/theme/theme.h"

namespace winnow {

class KeptMassMap : public QAbstractScrollArea {
  Q_OBJECT
 public:
  explicit KeptMassMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setKept(const KeptMass& kept);
  void clear(const QString& emptyText);
  QRect cellRect(int layer, int head) const;           // in the viewport; head -1: the layer's bar
  QString describe(int layer, int head) const;
  // By the root of what is lost: most of what is kept is near all of it.
  static QColor colourOf(double mass);
  QSize sizeHint() const override { return {680, 420}; }
  QSize minimumSizeHint() const override { return {300, 180}; }

 Q_SIGNALS:
  void cellChosen(const QString& description);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void changeEvent(QEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool viewportEvent(QEvent* event) override;

 private:
  void measure();
  void choose(int layer, int head);
  void paintCells(QPainter& painter, int layer) const;
  void paintBar(QPainter& painter, int layer) const;
  void paintHeadings(QPainter& painter) const;
  void paintLegend(QPainter& painter) const;
  int firstCell() const { return names_ + bar_ + figures_; }  // px
  int rowTop(int layer) const;
  QRect barRect(int layer) const;
  std::pair<int, int> at(const QPoint& point) const;  // {-1, -1}: none

  Theme theme_ = Theme::builtIn(false);
  KeptMass kept_;
  int layer_ = -1, head_ = -1;  // chosen
  int names_ = 40, bar_ = 160, figures_ = 60, top_ = 24, legend_ = 32, row_ = 22, cell_ = 24;  // px
  QString emptyText_;
};

}  // namespace winnow
