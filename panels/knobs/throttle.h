// SPDX-License-Identifier: GPL-3.0-or-later
// Fires at once, then at most once per interval; the last call of a burst is never lost.
#pragma once
#include <QElapsedTimer>
#include <QObject>
#include <QTimer>
#include <functional>

namespace winnow {

class Throttle : public QObject {
  Q_OBJECT
 public:
  explicit Throttle(int intervalMs, QObject* parent = nullptr);
  void call(std::function<void()> job);
  void flush();  // runs what waits, now
  bool waiting() const { return timer_.isActive(); }

 private:
  QTimer timer_;
  QElapsedTimer since_;
  int intervalMs_;
  std::function<void()> job_;
};

}  // namespace winnow
