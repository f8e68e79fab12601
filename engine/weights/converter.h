// SPDX-License-Identifier: GPL-3.0-or-later
// Prepares weight sets in the background. A finished set appears all at once, or as its layers are done; a superseded job is cancelled between
// tiles, and what it has finished is reused as long as somebody holds the job.
#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "engine/weights/store.h"

namespace winnow {

// The converter and background sessions give way to generation, but are not starved by it: with SCHED_IDLE, decode threads that spin
// on every core would leave them 0.3 % of a core and a knob would never act.
constexpr int kConverterNice = 5, kBackgroundNice = 10;
void lowerPriority(int nice);  // of the calling thread

class WeightJob {
 public:
  WeightJob(WeightTarget wanted, std::shared_ptr<const WeightSet> before) : target(std::move(wanted)), before_(std::move(before)) {}
  const WeightTarget target;

  void cancel() { stop_.request_stop(); }
  bool finished() const;
  double fraction() const { return fraction_.load(std::memory_order_relaxed); }
  // Once finished: the set, or why there is none.
  std::shared_ptr<const WeightSet> set() const;
  std::optional<Error> error() const;
  // The newest set whose first layers are done, once each; null where there is none that is newer.
  std::shared_ptr<const WeightSet> takePart();

 private:
  friend class Converter;
  std::stop_source stop_;
  std::atomic<double> fraction_{0};
  mutable std::mutex mutex_;
  bool finished_ = false;
  std::shared_ptr<const WeightSet> before_;  // null: all at once
  std::shared_ptr<const WeightSet> set_, part_;
  std::optional<Error> error_;
};

class Converter {
 public:
  Converter(WeightStore& store, int threads, Measurements measurements)
      : store_(store), threads_(threads), measurements_(std::move(measurements)) {}
  ~Converter();
  // With a set that layers are to be exchanged in: as they are done. [any thread]
  std::shared_ptr<WeightJob> submit(WeightTarget target, std::shared_ptr<const WeightSet> before = nullptr);

 private:
  void work(const std::stop_token& stop);

  WeightStore& store_;
  int threads_;
  Measurements measurements_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::shared_ptr<WeightJob>> queue_;
  std::shared_ptr<WeightJob> current_;
  std::jthread thread_;  // started by the first job
};

}  // namespace winnow
