// SPDX-License-Identifier: GPL-3.0-or-later
// Legend entries as real check boxes: reachable by keyboard, read by screen readers, with the value under the cursor.
#pragma once
#include <QCheckBox>
#include <QWidget>
#include <vector>

#include "panels/theme/theme.h"

namespace winnow {

class LegendEntry : public QCheckBox {
  Q_OBJECT
 public:
  LegendEntry(const QString& name, const SeriesStyle& style, bool area, bool hatched, QWidget* parent);
  void setStyleColors(const Theme& theme, const SeriesStyle& style);
  void setValue(const QString& value);  // empty = none
  void forgetValue();                   // and the room kept for it
  QSize sizeHint() const override;
  QSize minimumSizeHint() const override { return sizeHint(); }

 Q_SIGNALS:
  void soloRequested();  // Alt+click

 protected:
  void paintEvent(QPaintEvent* event) override;
  void mouseReleaseEvent(QMouseEvent* event) override;
  bool hitButton(const QPoint& at) const override { return rect().contains(at); }

 private:
  void paintSwatch(QPainter& painter, const QRectF& box) const;
  QString value_;
  int valueWidth_ = 0;  // the widest so far, so that the row does not jump
  SeriesStyle style_;
  QColor text_, secondary_, accent_;
  bool area_, hatched_;
};

// The entries in rows, as many as the width needs.
class SeriesLegend : public QWidget {
  Q_OBJECT
 public:
  explicit SeriesLegend(QWidget* parent = nullptr);
  void add(LegendEntry* entry);
  int widthOfOneRow() const;
  bool hasHeightForWidth() const override { return true; }
  int heightForWidth(int width) const override;
  QSize sizeHint() const override;
  QSize minimumSizeHint() const override;
  void refresh();  // an entry was shown, hidden or resized

 protected:
  void resizeEvent(QResizeEvent* event) override;

 private:
  int arrange(int width, bool move) const;
  std::vector<LegendEntry*> entries_;
};

}  // namespace winnow
