// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/throttle.h"

namespace winnow {

Throttle::Throttle(int intervalMs, QObject* parent) : QObject(parent), intervalMs_(intervalMs) {
  timer_.setSingleShot(true);
  timer_.setTimerType(Qt::PreciseTimer);
  connect(&timer_, &QTimer::timeout, this, &Throttle::flush);
}

void Throttle::call(std::function<void()> job) {
  job_ = std::move(job);
  if (timer_.isActive()) return;
  const qint64 passed = since_.isValid() ? since_.elapsed() : intervalMs_;
  if (passed >= intervalMs_) {
    flush();
  } else {
    timer_.start(static_cast<int>(intervalMs_ - passed));
  }
}

void Throttle::flush() {
  timer_.stop();
  if (!job_) return;
  since_.start();
  std::function<void()> job;
  job.swap(job_);
  job();
}

}  // namespace winnow
