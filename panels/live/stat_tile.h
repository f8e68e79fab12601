// SPDX-License-Identifier: GPL-3.0-or-later
// A key number in a card: label, the figure in large type, and its doubt below.
#pragma once
#include <QWidget>

#include "panels/theme/theme_manager.h"

namespace winnow {

class StatTile : public QWidget {
  Q_OBJECT
 public:
  enum class Tone { neutral, better, worse };
  // slot: the series colour of the plot this number belongs to.
  StatTile(ThemeManager* themes, const QString& label, int slot, QWidget* parent = nullptr);
  // value "20.3" and unit "ms" are drawn apart; detail in the secondary colour, as many of its parts (a · b) as
  // fit; the tool tip has all of it.
  void setNumber(const QString& value, const QString& detail);
  void setDelta(const QString& delta, Tone tone);  // beside the value; empty = none
  void setBusy(bool busy);                         // the figure is still being measured
  QString value() const { return value_; }
  QString detail() const { return detail_; }
  QSize sizeHint() const override;
  QSize minimumSizeHint() const override { return {112, sizeHint().height()}; }

 protected:
  void paintEvent(QPaintEvent* event) override;

 private:
  void describe();
  ThemeManager* themes_;
  QString label_, value_, detail_, delta_;
  Tone tone_ = Tone::neutral;
  int slot_;
  bool busy_ = false;
};

}  // namespace winnow
