// SPDX-License-Identifier: GPL-3.0-or-later
// Layers, or their heads, against positions: how many bits a value of the cache still has there. Evicted positions are empty, rows that
// read another layer's keys, or its whole cache, are hatched.
#pragma once
#include <QAbstractScrollArea>
#include <QImage>
#include <optional>
#include <vector>

#include "experiments/workbench.h"
#include "panels/theme/theme.h"

namespace winnow {

// One line of the map: a kv head, or the mean of a layer's.
struct OccupancyLine {
  int layer = 0, kvHead = -1;  // -1: all heads
  int keysOf = 0;
  double held = 0;             // positions, the mean over heads
  std::vector<float> share;    // [columns] of the positions, 0..1
  std::vector<float> bits;     // [columns] mean over all positions and both keys and values, evicted ones counted as 0
  std::vector<uint8_t> keyBits, valueBits;  // [columns] of what is held; of the first head that holds something
  bool borrowed = false;  // keys and values are of the layer keysOf
  bool shared() const { return keysOf != layer; }
};
std::vector<OccupancyLine> occupancyLines(const CacheMap& map, bool byHead);

class OccupancyMap : public QAbstractScrollArea {
  Q_OBJECT
 public:
  explicit OccupancyMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMap(const CacheMap& map, bool byHead);
  void clear(const QString& emptyText);
  const std::vector<OccupancyLine>& lines() const { return lines_; }
  QString describe(int line, int column) const;
  QRect cellRect(int line, int column) const;  // in the viewport
  QColor colourOf(double bits) const;
  QSize sizeHint() const override { return {640, 360}; }
  QSize minimumSizeHint() const override { return {260, 160}; }

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
  void measure();
  void render();  // one pixel a cell
  void choose(int line, int column);
  void paintNames(QPainter& painter) const;
  void paintTicks(QPainter& painter) const;
  void paintLegend(QPainter& painter) const;
  double edge(int column) const;  // px in the viewport
  std::optional<std::pair<int, int>> at(const QPoint& point) const;
  QString nameOf(const OccupancyLine& line) const;

  Theme theme_ = Theme::builtIn(false);
  CacheMap map_;
  std::vector<OccupancyLine> lines_;
  QImage cells_;
  bool byHead_ = false;
  int line_ = -1, column_ = -1;                          // chosen
  int names_ = 70, ticks_ = 22, legend_ = 34, row_ = 16;  // px
  QString emptyText_;
};

}  // namespace winnow
