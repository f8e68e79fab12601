// SPDX-License-Identifier: GPL-3.0-or-later
// Where one head looks: a row for each query, a column for each token it may look at.
#pragma once
#include <QImage>

#include "experiments/attention.h"
#include "panels/maps/triangle_map.h"

namespace winnow {

class AttentionMap : public TriangleMap {
  Q_OBJECT
 public:
  explicit AttentionMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMaps(const AttentionMaps& maps);
  void setHead(int layer, int head);
  void clear(const QString& emptyText);
  QString describe(int query, int key) const override;
  QRect cellRect(int query, int key) const override;
  QSize sizeHint() const override { return {460, 480}; }
  QSize minimumSizeHint() const override { return {220, 220}; }

 protected:
  int rows() const override { return shown() ? maps_.cells() : 0; }
  std::optional<std::pair<int, int>> at(const QPoint& point) const override;
  void paintEvent(QPaintEvent* event) override;

 private:
  bool shown() const { return layer_ >= 0 && !maps_.at(layer_, head_).cells.empty(); }
  int legend() const { return fontMetrics().height() + 16; }  // px
  QRect square() const;
  double edge(int cell) const;  // px from the square's corner
  QString tokensOf(int cell) const;
  void render();

  AttentionMaps maps_;
  QImage picture_;
  int layer_ = -1, head_ = -1;
  QString emptyText_;
};

}  // namespace winnow
