// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/replot_clock.h"

#include <algorithm>

namespace winnow {

ReplotClock::ReplotClock(QObject* parent) : QObject(parent) {
  timer_.setTimerType(Qt::PreciseTimer);
  timer_.setInterval(16);
  connect(&timer_, &QTimer::timeout, this, &ReplotClock::tick);
}

void ReplotClock::request(Replottable* plot) {
  if (std::find(waiting_.begin(), waiting_.end(), plot) == waiting_.end()) waiting_.push_back(plot);
  if (!timer_.isActive() && plot->isShown()) timer_.start();
}

void ReplotClock::forget(Replottable* plot) { std::erase(waiting_, plot); }

void ReplotClock::tick() {
  QElapsedTimer clock;
  clock.start();
  bool drawn = false;
  for (;;) {
    const auto next = std::find_if(waiting_.begin(), waiting_.end(), [](const Replottable* p) { return p->isShown(); });
    if (next == waiting_.end()) {
      timer_.stop();
      break;
    }
    if (drawn && static_cast<double>(clock.nsecsElapsed()) > budgetMs * 1e6) break;
    Replottable* plot = *next;
    waiting_.erase(next);
    plot->replotNow();
    drawn = true;
  }
  if (drawn) adapt(static_cast<double>(clock.nsecsElapsed()) / 1e6);
}

void ReplotClock::adapt(double ms) {
  averageMs_ = averageMs_ == 0 ? ms : averageMs_ * 0.9 + ms * 0.1;
  const int now = timer_.interval();
  int next = now;
  if (averageMs_ > 12) next = now == 16 ? 33 : 66;
  if (averageMs_ < 6) next = now == 66 ? 33 : 16;
  if (next == now) return;
  timer_.setInterval(next);
  averageMs_ = 9;  // judge the new rate afresh
}

}  // namespace winnow
