// SPDX-License-Identifier: GPL-3.0-or-later
// Prepares weight sets in the background. A finished set appears all at once; a superseded job is cancelled between tiles, and what
// it has finished is reused as long as somebody holds the job.
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
  explicit WeightJob(WeightTarget wanted) : target(std::move(wanted)) {}
  const WeightTarget target;

  void cancel() { stop_.request_stop(); }
  bool finished() const;
  double fraction() const { return fraction_.load(std::memory_order_relaxed); }
  // Once finished: the set, or why there is none.
  std::shared_ptr<const WeightSet> set() const;
  std::optional<Error> error() const;

 private:
  friend class Converter;
  std::stop_source stop_;
  std::atomic<double> fraction_{0};
  mutable std::mutex mutex_;
  bool finished_ = false;
  std::shared_ptr<const WeightSet> set_;
  std::optional<Error> error_;
};

class Converter {
 public:
  Converter(WeightStore& store, int threads, Measurements measurements)
      : store_(store), threads_(threads), measurements_(std::move(measurements)) {}
  ~Converter();
  std::shared_ptr<WeightJob> submit(WeightTarget target);  // [any thread]

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
