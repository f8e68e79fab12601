// SPDX-License-Identifier: GPL-3.0-or-later
// Every head of a model as a small picture of where it looks: layers below each other, heads side by side.
#pragma once
#include <QImage>
#include <vector>

#include "experiments/attention.h"
#include "panels/maps/head_cells.h"

namespace winnow {

class HeadGrid : public HeadCells {
  Q_OBJECT
 public:
  explicit HeadGrid(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMaps(const AttentionMaps& maps);  // chooses the first head if none is
  void clear(const QString& emptyText);
  QRect headRect(int layer, int head) const;  // in the viewport
  QString describe(int layer, int head) const override;
  QSize sizeHint() const override { return {300, 420}; }
  QSize minimumSizeHint() const override { return {160, 160}; }

 Q_SIGNALS:
  void headChosen(int layer, int head);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void measure() override;
  std::pair<int, int> extent() const override { return {maps_.layers, maps_.heads}; }
  void told(int layer, int head) override;

 private:
  void render();
  bool hasCells(int layer) const { return !maps_.at(layer, 0).cells.empty(); }

  AttentionMaps maps_;
  std::vector<QImage> pictures_;  // [layers][heads]; null where there is nothing
  std::pair<int, int> told_{-1, -1};
  QString emptyText_;
};

}  // namespace winnow
