// SPDX-License-Identifier: GPL-3.0-or-later
// Bars side by side in a low strip: a histogram before and after, or one value with its interval per layer. Read by pointer or arrow keys.
#pragma once
#include <QStringList>
#include <QWidget>
#include <optional>
#include <vector>

#include "panels/theme/theme.h"

namespace winnow {

struct BarStripData {
  struct Bar {
    QString name;                     // below it; empty where names stand at the ends only
    double value = 0;                 // NaN: not known yet
    double low = 0, high = 0;         // interval; low == high: none
    std::optional<double> outline;    // a second value: an outline around the bar
    bool apart = false;               // a gap before it
    QString told;                     // tooltip and what is read out
  };
  std::vector<Bar> bars;
  QString low, high;                  // below the ends of an axis without names
  QString top;                        // at the height of the largest value
  QString legend, outlineLegend;
  bool rootScale = false;             // heights by square root, so that rare values show
};

class BarStrip : public QWidget {
  Q_OBJECT
 public:
  explicit BarStrip(const QString& name, QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setData(BarStripData data);
  void clear(const QString& emptyText);
  const BarStripData& data() const { return data_; }
  int current() const { return current_; }
  QSize sizeHint() const override { return {320, 150}; }
  QSize minimumSizeHint() const override { return {180, 110}; }

 Q_SIGNALS:
  void barChosen(int bar);  // clicked, or Enter

 protected:
  void paintEvent(QPaintEvent* event) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void leaveEvent(QEvent* event) override;
  bool event(QEvent* event) override;

 private:
  QRectF area() const;
  std::pair<double, double> span(int bar) const;  // left and width, px
  int at(double x) const;
  double heightOf(double value) const;            // 0..1
  void moveTo(int bar);
  void paintBars(QPainter& painter, const QRectF& plot);
  void paintNames(QPainter& painter, const QRectF& plot);
  void paintHead(QPainter& painter, const QRectF& plot);

  Theme theme_ = Theme::builtIn(false);
  BarStripData data_;
  QString emptyText_;
  double largest_ = 0;
  int current_ = -1;
};

}  // namespace winnow
