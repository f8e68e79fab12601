// SPDX-License-Identifier: GPL-3.0-or-later
// Live quality: a fixed text re-scored in the background after each change, beside the 16-bit baseline on the same tokens.
// Runs on a low-priority thread with sessions of its own; a newer change replaces the one being scored.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/run/engine.h"
#include "experiments/types.h"

namespace winnow {

class QualityProbe {
 public:
  explicit QualityProbe(std::function<void(const QualityPoint&)> onPoint);
  ~QualityProbe();

  void configure(const std::string& text, int context, int windows);  // an empty text turns it off
  void setEngine(std::shared_ptr<Engine> engine);                      // null: none; waits for a scoring under way to stop
  // Scores the configuration that runs now (its weights exist already).
  void score(const Config& effective, int epoch, int64_t token);

 private:
  struct Work {
    std::shared_ptr<Engine> engine;
    Config config;
    int epoch = 0;
    int64_t token = 0;
    std::string text;
    int context = 0, windows = 0;
  };
  void loop(const std::stop_token& end);
  void run(const Work& work, const std::stop_token& stop);

  std::function<void(const QualityPoint&)> onPoint_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::shared_ptr<Engine> engine_;
  std::string text_;
  int context_ = 128, windows_ = 4;
  std::optional<Work> next_;
  std::stop_source current_;
  bool busy_ = false;
  std::jthread thread_;
};

}  // namespace winnow
