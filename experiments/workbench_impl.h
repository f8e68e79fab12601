// SPDX-License-Identifier: GPL-3.0-or-later
// Inside the Workbench. The engine thread runs posted tasks one after the other; everything it tells the window goes through
// onGui(). What both threads touch is under `mutex`; the rest belongs to the window's thread.
#pragma once
#include <QElapsedTimer>
#include <QTimer>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "experiments/jobs.h"
#include "experiments/model_hash.h"
#include "experiments/quality_probe.h"
#include "experiments/weight_watch.h"
#include "experiments/workbench.h"

namespace winnow {

struct Workbench::Impl {
  using Task = std::function<void(const std::stop_token&)>;
  using JobBody = std::function<Status(const Progress&)>;

  Impl(Workbench* owner, const EngineOptions& engineOptions);
  ~Impl();
  void shutDown();

  // engine thread
  void post(Task task);
  void loop(const std::stop_token& end);
  void startJob(JobState::Kind kind, const QString& what, JobBody body);
  void stopJob();
  void finishJob(const Status& status);
  void reportProgress(double fraction, std::string_view what);

  // model
  void openModel(const QString& path, int context);
  Status loadModel(const std::string& path, int context, const Config& config, const Progress& progress);
  void dropModel();

  // jobs
  void generate(const GenerateRequest& request);
  void runPlan(const PlanFile& plan, bool resume);
  JobContext jobContext(const Progress& progress);
  void pushPoint(const TokenPoint& point);   // engine thread; drained at display rate
  void drainPoints();
  void adoptIdle();
  void scoreProbe();                          // and compares the weights that now run
  WeightWatchObserver watchObserver();
  void forwardEvents();                       // of an idle session
  void showCache(bool force);

  // session file
  void setFile(std::shared_ptr<storage::SessionFile> next, bool temporary);
  std::shared_ptr<storage::SessionFile> ensureFile();

  std::shared_ptr<Engine> engine() const {
    std::scoped_lock lock(mutex);
    return engine_;
  }
  std::shared_ptr<Session> session() const {
    std::scoped_lock lock(mutex);
    return session_;
  }
  // Runs a call on the window's thread, later; dropped when the Workbench is gone.
  template <class Call>
  void onGui(Call&& call) {
    QMetaObject::invokeMethod(q, std::forward<Call>(call), Qt::QueuedConnection);
  }
  void log(const QString& level, const QString& code, const QString& text);

  Workbench* q;
  EngineOptions options;
  mutable std::mutex mutex;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Session> session_;
  ModelInfo info;
  std::shared_ptr<storage::SessionFile> file;
  bool fileIsTemporary = false;

  Config requested;
  JobState job;
  bool observing = false;
  QElapsedTimer jobClock;
  QTimer displayTimer;    // drains tokens
  QTimer pendingTimer;    // watches the weight converter
  std::vector<TokenPoint> points;  // under mutex
  std::optional<JobState> progressState;  // under mutex
  QElapsedTimer cacheClock;  // since the cache was shown
  qint64 cacheMapNs = 0;     // what that took
  int epoch = 0;
  qint64 epochToken = 0;                      // where it began

  std::mutex queueMutex;
  std::condition_variable_any queueChanged;
  std::deque<Task> queue;
  std::stop_source jobStop;
  QualityProbe probe;
  WeightWatch watch;
  ModelHasher hasher;
  std::jthread thread;
};

}  // namespace winnow
