// SPDX-License-Identifier: GPL-3.0-or-later
// Attention against effect: one point per source, how much of the attention it gets and what the answer loses without it. Far right and
// low: read, but without effect. Arrow keys go from point to point.
#pragma once
#include <QWidget>
#include <vector>

#include "panels/theme/theme.h"

namespace winnow {

class EffectScatter : public QWidget {
  Q_OBJECT
 public:
  struct Point {
    int source = 0;
    double attention = 0;  // share of all attention on sources, 0..1
    double effect = 0;     // nats
    bool noise = false;
    QString name;
  };
  explicit EffectScatter(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setPoints(std::vector<Point> points, double noiseFloor);
  const std::vector<Point>& points() const { return points_; }
  void setEmptyText(const QString& sentence);
  void setChosen(int source);               // -1 = none. Emits nothing.
  QPointF place(const Point& point) const;  // in the widget
  QSize sizeHint() const override { return {420, 240}; }
  QSize minimumSizeHint() const override { return {220, 130}; }

 Q_SIGNALS:
  void sourceHovered(int source);  // -1 = left
  void sourceChosen(int source);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void leaveEvent(QEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;

 private:
  QRectF plot() const;
  int nearest(const QPointF& at) const;  // index; -1 = none near
  QString describe(const Point& point) const;
  void paintAxes(QPainter& painter) const;
  void paintPoints(QPainter& painter) const;

  Theme theme_ = Theme::builtIn(false);
  std::vector<Point> points_;
  double noise_ = 0, low_ = 0, high_ = 1, right_ = 1;  // ends of the axes
  QString emptyText_;
  int chosen_ = -1, hovered_ = -1;  // sources
};

}  // namespace winnow
