// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/session_file.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "storage/open.h"
#include "storage/read.h"
#include "storage/write.h"
#include "storage/writer.h"

namespace winnow::storage {

namespace fs = std::filesystem;

namespace {

void syncPath(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

// Everything committed, and everything that could not be.
Status copyTo(Db& db, const std::vector<Task>& waiting, const std::string& path, const std::string& vfs) {
  const std::string partial = path + ".new-" + std::to_string(getpid());
  std::error_code ignored;
  fs::remove(partial, ignored);
  try {
    db.prepare("VACUUM INTO ?").bind(partial).run();
    {
      Db copy(partial, Db::Access::readWrite, vfs);
      copy.pragma("foreign_keys", "ON", "1");
      Transaction transaction(copy);
      copy.run("DELETE FROM owner");
      std::map<Id, Lost> refused;
      applyTasks(copy, waiting, {}, refused);
      transaction.commit();
    }
    syncPath(partial, O_RDONLY);
    if (std::rename(partial.c_str(), path.c_str()) != 0) throw SqlError(0, std::strerror(errno));
    syncPath(fs::absolute(path, ignored).parent_path().string(), O_RDONLY | O_DIRECTORY);
    return Done{};
  } catch (const SqlError& error) {
    fs::remove(partial, ignored);
    fs::remove(partial + "-journal", ignored);
    return sqlProblem(error, path, "save a copy as");
  }
}

template <class Sample>
size_t sampleBytes(const std::vector<Sample>& samples) {
  return 160 + samples.capacity() * sizeof(Sample);
}

class Session final : public SessionFile {
 public:
  Session(std::string path, const SessionOptions& options, Opened opened)
      : path_(std::move(path)), options_(options), readOnly_(!opened.writer), lastRun_(opened.lastRun), lastSweep_(opened.lastSweep),
        reader_(std::move(opened.reader)), checker_(std::make_unique<Db>(":memory:", Db::Access::create)) {
    if (opened.writer) writer_ = std::make_unique<Writer>(std::move(opened.writer), std::move(opened.ownership), path_, options);
  }
  ~Session() override { static_cast<void>(close()); }

  const std::string& path() const override { return path_; }
  bool readOnly() const override { return readOnly_; }

  Result<Id> beginRun(const NewRun& run) override {
    if (auto refused = refusal()) return *refused;
    for (const auto& [what, json] : {std::pair<const char*, const std::string*>{"specification", &run.specJson},
                                     {"divergence", &run.divergenceJson},
                                     {"environment", &run.environment.extraJson},
                                     {"requested configuration", &run.requested.canonicalJson},
                                     {"effective configuration", &run.effective.canonicalJson}}) {
      if (!json->empty() && !isJson(*json))
        return Error{Problem::refused, std::string("the run's ") + what + " is not valid JSON: " + json->substr(0, 60), ""};
    }
    const RunStart start{++lastRun_, makeUuid(), utcMicroseconds()};
    NewRun complete = run;
    for (std::string* json : {&complete.specJson, &complete.environment.extraJson})
      if (json->empty()) *json = "{}";
    if (complete.divergenceJson.empty()) complete.divergenceJson = "[]";
    const size_t bytes = 2048 + run.prompt.size() + run.specJson.size();
    post({Weight::essential, start.id, 1, bytes, false, false, [start, complete](Db& db, Outcome& o) {
            insertRun(db, start, complete);
            ++o.written;
          }});
    return start.id;
  }
  void updateEffective(Id run, const ConfigRecord& effective, const std::string& divergenceJson) override {
    essential(run, [=](Db& db) { storage::updateEffective(db, run, effective, divergenceJson.empty() ? "[]" : divergenceJson); });
  }
  void addTokens(Id run, std::vector<TokenSample> samples) override {
    size_t pieces = 0;
    for (const TokenSample& s : samples) pieces += s.piece.size() > 15 ? s.piece.size() : 0;
    rows(Weight::sample, run, std::move(samples), &insertTokens, pieces);
  }
  void addMemory(Id run, std::vector<MemorySample> samples) override { rows(Weight::expendable, run, std::move(samples), &insertMemory); }
  void addKnobEvents(Id run, std::vector<KnobEvent> events) override { rows(Weight::essential, run, std::move(events), &insertKnobEvents); }
  void addEvents(Id run, std::vector<EventRecord> events) override { rows(Weight::sample, run, std::move(events), &insertEvents); }
  void addWindows(Id run, std::vector<WindowSample> windows) override { rows(Weight::sample, run, std::move(windows), &insertWindows); }
  void addRetrieval(Id run, std::vector<RetrievalSample> samples) override { rows(Weight::sample, run, std::move(samples), &insertRetrieval); }
  void addBench(Id run, std::vector<BenchSample> samples) override { rows(Weight::sample, run, std::move(samples), &insertBench); }
  void addOpStats(Id run, std::vector<OpStat> stats) override { rows(Weight::expendable, run, std::move(stats), &insertOpStats); }
  void setAttribution(Id run, const AttributionRecord& attribution) override {
    size_t bytes = attribution.context.size() + attribution.response.size();
    for (const AttributionSource& s : attribution.sources) bytes += sizeof s + s.text.size() + s.perToken.size() * sizeof(float);
    bytes += attribution.levelsJson.size() + attribution.forecastsJson.size();
    essential(run, [=](Db& db) { replaceAttribution(db, run, attribution); }, bytes);
  }
  void addOutcomes(Id run, std::vector<AttributionOutcome> outcomes) override {
    size_t bytes = 0;
    for (const AttributionOutcome& o : outcomes) bytes += o.keep.size() + o.logProbs.size() * sizeof(double);
    rows(Weight::sample, run, std::move(outcomes), &insertOutcomes, bytes);
  }
  void setMetrics(Id run, std::vector<Metric> metrics) override { rows(Weight::essential, run, std::move(metrics), &insertMetrics); }
  void setOutput(Id run, const std::string& text) override {
    essential(run, [=](Db& db) { replaceOutput(db, run, text); }, text.size());
  }
  void finishRun(Id run, RunStatus status, const std::string& error) override {
    const int64_t now = utcMicroseconds();
    Task task{Weight::essential, run, 1, 256, true, false, {}};
    task.apply = [=](Db& db, Outcome& o) {
      storage::finishRun(db, run, status, error, now);
      ++o.written;
    };
    post(std::move(task));
  }
  Result<Id> addSweep(const SweepRecord& sweep) override {
    if (auto refused = refusal()) return *refused;
    if (!sweep.planJson.empty() && !isJson(sweep.planJson)) return Error{Problem::refused, "the sweep's plan is not valid JSON", ""};
    const Id id = ++lastSweep_;
    const int64_t now = utcMicroseconds();
    essential(0, [=](Db& db) { insertSweep(db, id, sweep, now); }, sweep.planJson.size() + sweep.points.size() * 512);
    return id;
  }
  void setPoint(Id sweep, int ordinal, PointState state, std::optional<Id> run, const std::string& note) override {
    essential(0, [=](Db& db) { updatePoint(db, sweep, ordinal, state, run, note); });
  }
  void setName(Id run, const std::string& name) override {
    essential(run, [=](Db& db) { db.run("UPDATE run SET name=? WHERE run_id=?", name, run); });
  }
  void setNotes(Id run, const std::string& notes) override {
    essential(run, [=](Db& db) { db.run("UPDATE run SET notes=? WHERE run_id=?", notes, run); }, notes.size());
  }
  void setBaseline(std::optional<Id> run) override {
    essential(0, [=](Db& db) { markBaseline(db, run); });
  }
  void setUi(const std::string& json) override {
    essential(0, [=](Db& db) { updateUi(db, json); }, json.size());
  }
  void setModelHash(const std::string& path, const std::string& hash) override {
    essential(0, [=](Db& db) { updateModelHash(db, path, hash); });
  }
  Result<int> deleteRuns(const std::vector<Id>& runs) override {
    if (auto refused = refusal()) return *refused;
    int deleted = 0;
    const Status status = writer_->call(
        [&](Db& db, std::vector<Task>& waiting) -> Status {
          if (!waiting.empty()) return Error{Problem::io, "can't delete runs while samples wait for the disk", "Free some space first."};
          Transaction transaction(db);
          for (const Id run : runs) {
            Query q(db.cached("SELECT 1 FROM run WHERE run_id=? AND status IN('queued','running')").bind(run));
            if (q->step()) return Error{Problem::refused, "run " + std::to_string(run) + " is still running", "Stop it first."};
          }
          deleted = storage::deleteRuns(db, runs);
          transaction.commit();
          return Done{};
        },
        "delete runs of");
    if (!status) return status.error();
    return deleted;
  }
  Status flush() override { return writer_ ? writer_->flush() : Status(Done{}); }
  WriterState writerState() const override { return writer_ ? writer_->state() : WriterState{}; }

  Status saveCopy(const std::string& target) override {
    std::error_code ignored;
    if (fs::exists(target, ignored))
      return Error{Problem::refused, "'" + target + "' exists already", "Choose another name: nothing is overwritten."};
    if (writer_)
      return writer_->call([&](Db& db, std::vector<Task>& waiting) { return copyTo(db, waiting, target, options_.vfs); }, "copy");
    return read<Done>([&](Db& db) -> Result<Done> {
      db.exec("PRAGMA query_only = OFF");  // it forbids VACUUM INTO too; the connection itself can't write here
      Status status = copyTo(db, {}, target, options_.vfs);
      db.exec("PRAGMA query_only = ON");
      return status;
    });
  }
  Status close() override {
    {
      const std::scoped_lock lock(readerMutex_);
      reader_.reset();
    }
    if (!writer_) return Done{};
    Status status = writer_->close();
    if (!status && !writer_->closed()) reopenReader();
    return status;
  }

  Result<std::vector<RunSummary>> runs() override {
    return read<std::vector<RunSummary>>([](Db& db) { return readRuns(db, std::nullopt); });
  }
  Result<RunSummary> run(Id id) override {
    return read<RunSummary>([&](Db& db) -> Result<RunSummary> {
      auto found = readRuns(db, id);
      if (found.empty()) return noRun(id);
      return std::move(found.front());
    });
  }
  Result<std::vector<TokenSample>> tokens(Id run) override { return list<TokenSample>(&readTokens, run); }
  Result<std::vector<MemorySample>> memory(Id run) override { return list<MemorySample>(&readMemory, run); }
  Result<std::vector<KnobEvent>> knobEvents(Id run) override { return list<KnobEvent>(&readKnobEvents, run); }
  Result<std::vector<EventRecord>> events(Id run) override { return list<EventRecord>(&readEvents, run); }
  Result<std::vector<WindowSample>> windows(Id run) override { return list<WindowSample>(&readWindows, run); }
  Result<std::vector<RetrievalSample>> retrieval(Id run) override { return list<RetrievalSample>(&readRetrieval, run); }
  Result<std::vector<BenchSample>> bench(Id run) override { return list<BenchSample>(&readBench, run); }
  Result<std::vector<OpStat>> opStats(Id run) override { return list<OpStat>(&readOpStats, run); }
  Result<std::optional<AttributionRecord>> attribution(Id run) override {
    return read<std::optional<AttributionRecord>>([&](Db& db) { return readAttribution(db, run); });
  }
  Result<std::vector<AttributionOutcome>> outcomes(Id run) override { return list<AttributionOutcome>(&readOutcomes, run); }
  Result<std::string> prompt(Id run) override {
    return text("SELECT (SELECT text FROM prompt p WHERE p.prompt_id=r.prompt_id) FROM run r WHERE run_id=?", run);
  }
  Result<std::string> output(Id run) override {
    return text("SELECT (SELECT text FROM output o WHERE o.run_id=r.run_id) FROM run r WHERE run_id=?", run);
  }
  Result<EnvironmentRecord> environment(Id run) override {
    return read<EnvironmentRecord>([&](Db& db) -> Result<EnvironmentRecord> {
      auto found = readEnvironment(db, run);
      if (!found) return noRun(run);
      return std::move(*found);
    });
  }
  Result<std::vector<SweepRecord>> sweeps() override { return read<std::vector<SweepRecord>>([](Db& db) { return readSweeps(db); }); }
  Result<std::string> ui() override {
    return read<std::string>([](Db& db) { return db.value("SELECT ui_json FROM session"); });
  }

 private:
  Error noRun(Id id) const {
    return {Problem::notFound, "there is no run " + std::to_string(id) + " in '" + path_ + "'", "List the runs."};
  }
  std::optional<Error> refusal() const {
    if (readOnly_) return Error{Problem::readOnly, "'" + path_ + "' is open for reading only", "Save a copy to go on in."};
    if (writer_->closed()) return Error{Problem::refused, "the session is closed", ""};
    return std::nullopt;
  }
  bool isJson(const std::string& text) {
    const std::scoped_lock lock(checkerMutex_);
    Query q(checker_->cached("SELECT json_valid(?)").bind(text));
    return q->step() && q->integer(0) == 1;
  }
  void post(Task task) {
    if (writer_) writer_->post(std::move(task));
  }
  template <class Work>
  void essential(Id run, Work work, size_t bytes = 0) {
    post({Weight::essential, run, 1, 512 + bytes, false, false, [work = std::move(work)](Db& db, Outcome& o) {
            work(db);
            ++o.written;
          }});
  }
  template <class Sample>
  void rows(Weight weight, Id run, std::vector<Sample> samples, void (*insert)(Db&, Id, const std::vector<Sample>&, Outcome&),
            size_t more = 0) {
    if (samples.empty()) return;
    const auto count = static_cast<int64_t>(samples.size());
    const size_t bytes = sampleBytes(samples) + more;
    post({weight, run, count, bytes, false, true,
          [run, insert, samples = std::move(samples)](Db& db, Outcome& o) { insert(db, run, samples, o); }});
  }

  template <class Value, class Work>
  Result<Value> read(Work work) {
    const std::scoped_lock lock(readerMutex_);
    if (!reader_) return Error{Problem::refused, "the session is closed", ""};
    try {
      return work(*reader_);
    } catch (const SqlError& error) {
      return sqlProblem(error, path_, "read");
    }
  }
  template <class Sample>
  Result<std::vector<Sample>> list(std::vector<Sample> (*work)(Db&, Id), Id run) {
    return read<std::vector<Sample>>([&](Db& db) { return work(db, run); });
  }
  Result<std::string> text(const char* sql, Id run) {
    return read<std::string>([&](Db& db) -> Result<std::string> {
      Query q(db.cached(sql).bind(run));
      if (!q->step()) return noRun(run);
      return q->text(0);
    });
  }
  void reopenReader() {
    try {
      auto db = std::make_unique<Db>(path_, Db::Access::readOnly, options_.vfs);
      db->exec("PRAGMA query_only = ON");
      const std::scoped_lock lock(readerMutex_);
      reader_ = std::move(db);
    } catch (const SqlError&) {
      // Reading stays refused; what is written is not at risk.
    }
  }

  const std::string path_;
  const SessionOptions options_;
  const bool readOnly_;
  std::atomic<Id> lastRun_, lastSweep_;
  std::mutex readerMutex_, checkerMutex_;
  std::unique_ptr<Db> reader_, checker_;
  std::unique_ptr<Writer> writer_;
};

}  // namespace

Result<std::shared_ptr<SessionFile>> openSession(const std::string& path, SessionFile::Mode mode, OpenReport* report,
                                                 const SessionOptions& options) {
  OpenReport own;
  OpenReport& found = report ? *report : own;
  found = {};
  Result<Opened> opened = openFile(path, mode, options, found);
  if (!opened) return opened.error();
  return std::shared_ptr<SessionFile>(std::make_shared<Session>(path, options, std::move(*opened)));
}

Result<std::shared_ptr<SessionFile>> SessionFile::open(const std::string& path, Mode mode, OpenReport* report) {
  return openSession(path, mode, report, {});
}

std::string sqliteVersion() { return sqlite3_libversion(); }

}  // namespace winnow::storage
