// SPDX-License-Identifier: GPL-3.0-or-later
// One session = one SQLite file NAME.winnow. SessionFile opens or creates it and reads; Writer is the only read-write
// connection, on its own thread, fed by a bounded queue that never blocks the caller (a full queue drops and counts).
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/records.h"
#include "storage/result.h"

namespace winnow::storage {

struct OpenReport {            // what was found when the file was opened
  bool readOnly = false;       // newer schema, read-only file or folder, or another process owns it
  std::string readOnlyReason;  // one sentence without its full stop
  Problem readOnlyProblem = Problem::readOnly;  // or newer, locked, full
  std::vector<Id> interrupted; // runs found 'running' whose process is gone; now 'interrupted'
};

struct WriterState {           // [any thread]
  int64_t queued = 0, written = 0, dropped = 0;
  int64_t lastCommitUs = 0;    // UTC microseconds of the last commit, 0 = none
  bool degraded = false;       // disk full, I/O error: samples are kept in memory and retried
  std::string problem;         // one sentence
};

class SessionFile {
 public:
  enum class Mode { create, open, openOrCreate, readOnly };
  // Errors say what kind they are (Problem). create refuses an existing file; openOrCreate takes an empty one as new.
  // Read-only is no error: the report says why.
  static Result<std::shared_ptr<SessionFile>> open(const std::string& path, Mode mode, OpenReport* report = nullptr);
  virtual ~SessionFile() = default;

  virtual const std::string& path() const = 0;
  virtual bool readOnly() const = 0;

  // ---- writing: queued in order, returns at once. Ids are assigned by the caller-side counter, valid immediately. ----
  // finishRun comes last: a finished run takes no more samples, metrics or output (refused, counted in writerState().dropped).
  virtual Result<Id> beginRun(const NewRun& run) = 0;
  virtual void updateEffective(Id run, const ConfigRecord& effective, const std::string& divergenceJson) = 0;
  virtual void addTokens(Id run, std::vector<TokenSample> samples) = 0;
  virtual void addMemory(Id run, std::vector<MemorySample> samples) = 0;
  virtual void addKnobEvents(Id run, std::vector<KnobEvent> events) = 0;
  virtual void addEvents(Id run, std::vector<EventRecord> events) = 0;
  virtual void addWindows(Id run, std::vector<WindowSample> windows) = 0;
  virtual void addRetrieval(Id run, std::vector<RetrievalSample> samples) = 0;
  virtual void addBench(Id run, std::vector<BenchSample> samples) = 0;
  virtual void addOpStats(Id run, std::vector<OpStat> stats) = 0;
  virtual void setAttribution(Id run, const AttributionRecord& attribution) = 0;  // replaces (partial results)
  virtual void addOutcomes(Id run, std::vector<AttributionOutcome> outcomes) = 0;  // of an attribution, as they come
  virtual void setMetrics(Id run, std::vector<Metric> metrics) = 0;
  virtual void setOutput(Id run, const std::string& text) = 0;
  virtual void finishRun(Id run, RunStatus status, const std::string& error = {}) = 0;
  virtual Result<Id> addSweep(const SweepRecord& sweep) = 0;
  virtual void setPoint(Id sweep, int ordinal, PointState state, std::optional<Id> run, const std::string& note = {}) = 0;
  virtual void setName(Id run, const std::string& name) = 0;
  virtual void setNotes(Id run, const std::string& notes) = 0;
  virtual void setBaseline(std::optional<Id> run) = 0;
  virtual void setUi(const std::string& json) = 0;
  virtual void setModelHash(const std::string& path, const std::string& sha256) = 0;
  virtual Result<int> deleteRuns(const std::vector<Id>& runs) = 0;   // waits
  virtual Status flush() = 0;                      // waits until everything queued is committed
  virtual WriterState writerState() const = 0;
  virtual Status saveCopy(const std::string& path) = 0;   // VACUUM INTO, and what waits for the disk; never onto an existing file
  virtual Status close() = 0;                      // flush, checkpoint, one single file

  // ---- reading (own read-only connection; sees what is committed) ----
  virtual Result<std::vector<RunSummary>> runs() = 0;    // newest first
  virtual Result<RunSummary> run(Id id) = 0;
  virtual Result<std::vector<TokenSample>> tokens(Id run) = 0;
  virtual Result<std::vector<MemorySample>> memory(Id run) = 0;
  virtual Result<std::vector<KnobEvent>> knobEvents(Id run) = 0;
  virtual Result<std::vector<EventRecord>> events(Id run) = 0;
  virtual Result<std::vector<WindowSample>> windows(Id run) = 0;
  virtual Result<std::vector<RetrievalSample>> retrieval(Id run) = 0;
  virtual Result<std::vector<BenchSample>> bench(Id run) = 0;
  virtual Result<std::vector<OpStat>> opStats(Id run) = 0;
  virtual Result<std::optional<AttributionRecord>> attribution(Id run) = 0;
  virtual Result<std::vector<AttributionOutcome>> outcomes(Id run) = 0;
  virtual Result<std::string> prompt(Id run) = 0;
  virtual Result<std::string> output(Id run) = 0;
  virtual Result<EnvironmentRecord> environment(Id run) = 0;
  virtual Result<std::vector<SweepRecord>> sweeps() = 0;
  virtual Result<std::string> ui() = 0;
};

std::string sqliteVersion();  // of the library that runs

}  // namespace winnow::storage
