// SPDX-License-Identifier: GPL-3.0-or-later
// How much alike the attention of layers is, layer against layer, with the spans that share it framed.
#pragma once
#include <QWidget>
#include <optional>

#include "experiments/similarity.h"
#include "panels/theme/theme.h"

namespace winnow {

class LikenessMap : public QWidget {
  Q_OBJECT
 public:
  explicit LikenessMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMap(const SimilarityMap& map, SimilarityOf which);
  void setSpans(std::vector<LayerSpan> spans);  // those outside the map are not drawn
  void clear(const QString& emptyText);
  QString describe(int a, int b) const;
  QRect cellRect(int a, int b) const;
  QSize sizeHint() const override { return {520, 460}; }
  QSize minimumSizeHint() const override { return {260, 220}; }

 protected:
  void paintEvent(QPaintEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool event(QEvent* event) override;

 private:
  std::optional<std::pair<int, int>> at(const QPoint& point) const;
  void choose(int a, int b);
  double share(double value) const { return low_ < 1 ? (value - low_) / (1 - low_) : 1; }
  int cell() const;    // px
  int margin() const;  // px, of the layers' numbers
  int legend() const;  // px, its height

  Theme theme_ = Theme::builtIn(false);
  std::optional<SimilarityMap> map_;
  SimilarityOf which_ = SimilarityOf::rows;
  std::vector<LayerSpan> spans_;
  double low_ = 0;
  int row_ = -1, column_ = -1;  // chosen
  QString emptyText_;
};

}  // namespace winnow
