// SPDX-License-Identifier: GPL-3.0-or-later
// From engine values to the records of a session file. A RunRecorder without a file records nothing, so that jobs are
// written once.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "storage/session_file.h"

namespace winnow {

storage::ConfigRecord configRecord(const Config& config);
std::string divergenceJson(const Effective& effective);
storage::EnvironmentRecord environmentRecord();
storage::DeviceRecord deviceRecord(const Engine& engine);
storage::ModelRecord modelRecord(const Model& model);

class RunRecorder {
 public:
  // Begins the run; `run` holds what is particular to it (kind, prompt, protocol, spec, sweep ...), the rest is filled in.
  RunRecorder(std::shared_ptr<storage::SessionFile> file, const Engine& engine, const Effective& effective, storage::NewRun run);
  ~RunRecorder();  // a run that was not finished is marked failed
  RunRecorder(const RunRecorder&) = delete;
  RunRecorder& operator=(const RunRecorder&) = delete;

  bool active() const { return id_ >= 0; }
  storage::Id id() const { return id_; }
  storage::SessionFile* file() const { return active() ? file_.get() : nullptr; }
  int64_t nowNs() const;  // since the run began

  void token(storage::TokenSample sample);                      // batched
  void memory(int64_t atToken, const MemoryByTag& memory);      // tags that changed
  void metric(const std::string& name, const std::string& unit, const std::string& better, double value, int64_t n = 1);
  void metric(storage::Metric metric) { metrics_.push_back(std::move(metric)); }
  void event(const std::string& level, const std::string& code, const std::string& text);
  void epoch(int number, int64_t atToken, const EngineEvent& event);
  void effective(const Effective& effective);
  void flushTokens();
  void finish(storage::RunStatus status, const std::string& error = {});

 private:
  std::shared_ptr<storage::SessionFile> file_;
  storage::Id id_ = -1;
  bool finished_ = false;
  int64_t startNs_ = 0;
  std::vector<storage::TokenSample> tokens_;
  MemoryByTag lastMemory_{};
  int64_t peakMemory_ = 0;
  std::vector<storage::Metric> metrics_;
};

}  // namespace winnow
