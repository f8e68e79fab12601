// SPDX-License-Identifier: GPL-3.0-or-later
// The share of attention that a cache setting keeps: a row for each layer, as a bar of its mean with a mark at the share of positions held,
// and a cell for each head.
#pragma once
#include "experiments/kept_mass.h"
#include "panels/maps/head_cells.h"

namespace winnow {

class KeptMassMap : public HeadCells {
  Q_OBJECT
 public:
  explicit KeptMassMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setKept(const KeptMass& kept);
  void clear(const QString& emptyText);
  QRect cellRect(int layer, int head) const;           // in the viewport; head -1: the layer's bar
  QString describe(int layer, int head) const override;
  // By the root of what is lost: most of what is kept is near all of it.
  static QColor colourOf(double mass);
  QSize sizeHint() const override { return {680, 420}; }
  QSize minimumSizeHint() const override { return {300, 180}; }

 Q_SIGNALS:
  void cellChosen(const QString& description);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void measure() override;
  std::pair<int, int> extent() const override { return {kept_.layers, kept_.heads}; }
  int firstHead() const override { return -1; }
  void told(int layer, int head) override { Q_EMIT cellChosen(describe(layer, head)); }

 private:
  void paintCells(QPainter& painter, int layer) const;
  void paintBar(QPainter& painter, int layer) const;
  void paintHeadings(QPainter& painter) const;
  void paintLegend(QPainter& painter) const;
  int rowTop(int layer) const;
  QRect barRect(int layer) const;

  KeptMass kept_;
  int names_ = 40, bar_ = 160, figures_ = 60;  // px, left of the cells
  QString emptyText_;
};

}  // namespace winnow
