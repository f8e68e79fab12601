// SPDX-License-Identifier: GPL-3.0-or-later
// How much alike the attention of layers is, layer against layer, with the spans that share it framed.
#pragma once
#include "experiments/similarity.h"
#include "panels/maps/triangle_map.h"

namespace winnow {

class LikenessMap : public TriangleMap {
  Q_OBJECT
 public:
  explicit LikenessMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMap(const SimilarityMap& map, SimilarityOf which);
  void setSpans(std::vector<LayerSpan> spans);  // those outside the map are not drawn
  void clear(const QString& emptyText);
  QString describe(int a, int b) const override;
  QRect cellRect(int a, int b) const override;
  QSize sizeHint() const override { return {520, 460}; }
  QSize minimumSizeHint() const override { return {260, 220}; }

 protected:
  int rows() const override { return map_ ? map_->layers : 0; }
  std::optional<std::pair<int, int>> at(const QPoint& point) const override;
  void paintEvent(QPaintEvent* event) override;

 private:
  double share(double value) const { return low_ < 1 ? (value - low_) / (1 - low_) : 1; }
  int cell() const;    // px
  int margin() const;  // px, of the layers' numbers
  int legend() const;  // px, its height

  std::optional<SimilarityMap> map_;
  SimilarityOf which_ = SimilarityOf::rows;
  std::vector<LayerSpan> spans_;
  double low_ = 0;
  QString emptyText_;
};

}  // namespace winnow
