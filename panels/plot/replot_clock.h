// SPDX-License-Identifier: GPL-3.0-or-later
// One clock for all plots: 16 ms ticks while something is dirty, at most 8 ms of drawing per tick, the longest waiting plot first.
// Hidden plots wait without costing anything; when drawing can't keep up the rate falls to 30, then 15 frames per second.
#pragma once
#include <QElapsedTimer>
#include <QObject>
#include <QTimer>
#include <vector>

namespace winnow {

class Replottable {
 public:
  virtual ~Replottable() = default;
  virtual bool isShown() const = 0;  // visible on a screen that isn't minimized
  virtual void replotNow() = 0;
};

class ReplotClock : public QObject {
  Q_OBJECT
 public:
  explicit ReplotClock(QObject* parent = nullptr);
  void request(Replottable* plot);  // also when it becomes visible again
  void forget(Replottable* plot);
  int interval() const { return timer_.interval(); }  // ms: 16, 33 or 66
  double averageMs() const { return averageMs_; }     // of drawing per tick
  bool active() const { return timer_.isActive(); }

  static constexpr double budgetMs = 8;

 private:
  void tick();
  void adapt(double ms);
  QTimer timer_;
  std::vector<Replottable*> waiting_;  // oldest request first
  double averageMs_ = 0;
};

}  // namespace winnow
