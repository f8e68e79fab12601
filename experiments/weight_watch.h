// SPDX-License-Identifier: GPL-3.0-or-later
// Compares the weights that run with the master in the background, and again when others are published. On a low-priority thread; a newer
// question replaces the one being answered.
#pragma once
#include <QString>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/run/engine.h"
#include "engine/weights/report.h"
#include "engine/weights/super_weights.h"

namespace winnow {

struct WeightWatchObserver {  // called on the watch's thread
  std::function<void(const WeightReport&, const Config&)> onReport;
  std::function<void(const WeightHistogram&)> onHistogram;
  std::function<void(const std::vector<SuperWeight>&)> onSuperWeights;
  std::function<void(double fraction, const QString& what)> onProgress;  // < 0: idle; `what` then says why there is no answer, or nothing
};

class WeightWatch {
 public:
  explicit WeightWatch(WeightWatchObserver observer);
  ~WeightWatch();
  void setEngine(std::shared_ptr<Engine> engine);  // null: none; waits until nothing holds the old one
  void setOn(bool on);                             // off: nothing is compared
  void compare(const Config& effective);           // what runs now; nothing is done where its report is known
  void showHistogram(int tensor);
  void findSuperWeights();                         // of the file's values
  void stop();                                     // what is being compared now

 private:
  struct Question {
    enum class Kind : uint8_t { report, superWeights, histogram } kind;
    std::shared_ptr<Engine> engine;
    Config config;
    int tensor;  // of a histogram
  };
  void loop(const std::stop_token& end);
  void answer(const Question& question, const Progress& progress);
  std::optional<Error> answerFrom(const Question& question, const Progress& progress);
  bool waiting() const { return on_ && engine_ && config_ && (reportWanted_ || superWanted_ || histogramWanted_ >= 0); }

  WeightWatchObserver observer_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::shared_ptr<Engine> engine_;
  std::optional<Config> config_;
  bool on_ = false, busy_ = false, reportWanted_ = false, superWanted_ = false;
  int histogramWanted_ = -1, shown_ = -1;
  std::stop_source current_;
  std::jthread thread_;
};

}  // namespace winnow
