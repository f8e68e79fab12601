// SPDX-License-Identifier: GPL-3.0-or-later
// What plots on one x axis share: the cursor (one crosshair over all of them, followed by token flow and inspector) and the
// visible range.
#pragma once
#include <QObject>
#include <optional>

namespace winnow {

class CursorLink : public QObject {
  Q_OBJECT
 public:
  explicit CursorLink(QObject* parent = nullptr) : QObject(parent) {}
  std::optional<double> position() const { return position_; }
  // The token under the cursor; -1 = none.
  qint64 token() const;
  void setPosition(double x);
  void clear();

 Q_SIGNALS:
  void positionChanged();            // position() has the new one
  void tokenHovered(qint64 token);   // only when the token is another one; -1 = left
  void tokenSelected(qint64 token);  // clicked, or Return on a plot

 private:
  void set(std::optional<double> x);
  std::optional<double> position_;
};

class AxisLink : public QObject {
  Q_OBJECT
 public:
  enum class Mode {
    fit,     // everything there is
    follow,  // the newest, in the present width
    fixed,   // where the person put it
  };
  explicit AxisLink(QObject* parent = nullptr) : QObject(parent) {}
  double lower() const { return lower_; }
  double upper() const { return upper_; }
  double last() const { return last_; }  // the newest x
  Mode mode() const { return mode_; }
  void setMode(Mode mode);
  void setRange(double lower, double upper);  // by a person: the mode becomes fixed
  void extendTo(double first, double last);   // the data's extent, growing
  void reset();                               // no data

 Q_SIGNALS:
  void changed();

 private:
  void place();
  bool any_ = false;
  double first_ = 0, last_ = 0, lower_ = 0, upper_ = 32;
  Mode mode_ = Mode::fit;
};

}  // namespace winnow
