// SPDX-License-Identifier: GPL-3.0-or-later
// The thread that writes. Tasks are queued and return at once; the thread commits them in batches. When the disk refuses, the
// batch stays in memory and is tried again with growing pauses: the state is 'degraded' until it passes.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "storage/open.h"
#include "storage/write.h"

namespace winnow::storage {

enum class Weight {
  expendable,  // memory and op samples: the first to go when the queue is three quarters full
  sample,      // tokens and all other measurements: dropped only when the queue is full
  essential,   // what makes a run a run: never dropped
};

struct Task {
  Weight weight = Weight::essential;
  Id run = 0;            // 0 = of the session
  int64_t rows = 1;
  size_t bytes = 256;    // in memory, roughly
  bool ends = false;     // the run takes no more after this
  bool rowwise = false;  // handles refused rows itself and needs no savepoint
  std::function<void(Db&, Outcome&)> apply;
};

struct Lost {            // samples that were not stored
  int64_t rows = 0;
  std::string why;
};

// Applies the tasks inside the caller's transaction. A task that breaks a rule of the schema is undone alone and added to
// `refused`. What is lost is told in the events of its run, before the run ends. Returns the rows written.
int64_t applyTasks(Db& db, const std::vector<Task>& tasks, std::map<Id, Lost> lost, std::map<Id, Lost>& refused);

class Writer {
 public:
  Writer(std::unique_ptr<Db> db, std::unique_ptr<Ownership> ownership, std::string path, const SessionOptions& options);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  bool post(Task task);  // false = dropped or closed
  Status flush();        // all that was posted before is committed; or the reason why it could not be, tried just now
  // Runs on the writer thread after everything posted before it has been tried; `waiting` are the tasks that could not be written.
  using Work = std::function<Status(Db&, std::vector<Task>& waiting)>;
  Status call(Work work, const std::string& doing);
  Status close();        // flush, checkpoint, one single file. On an error it stays open.
  WriterState state() const;
  bool closed() const;

 private:
  struct Request {
    Work work;
    std::string doing;
    std::optional<Status> answer;
  };
  using Lock = std::unique_lock<std::mutex>;

  void loop();
  void wait(Lock& lock);
  void attempt(Lock& lock);
  void serve(Lock& lock);
  void succeeded(int64_t rows, const std::map<Id, Lost>& refused, const std::map<Id, Lost>& told);
  void failed(const Error& error);
  bool blocked() const { return state_.degraded && !moved_; }
  int64_t commitBatch(const std::map<Id, Lost>& lost, std::map<Id, Lost>& refused, bool recovered);
  std::string movedProblem();
  Status tidy(Db& db);

  // Writer thread only.
  std::unique_ptr<Db> db_;
  std::unique_ptr<Ownership> ownership_;
  const std::string path_;
  const SessionOptions options_;
  std::vector<Task> batch_;             // taken from the queue, not committed yet

  mutable std::mutex mutex_;            // guards what follows
  std::condition_variable wake_, answered_;
  std::deque<Task> queue_;
  std::deque<Request*> requests_;
  std::map<Id, Lost> lost_;             // dropped before they were queued; told in the next commit
  size_t queuedBytes_ = 0;
  int64_t queuedRows_ = 0, batchRows_ = 0;
  int64_t posted_ = 0, settled_ = 0;    // tasks
  int64_t begun_ = 0, ended_ = 0;       // attempts
  int64_t flushAt_ = 0;                 // commit without waiting until this many are settled
  bool stop_ = false, closing_ = false, closed_ = false, retryNow_ = false;
  bool moved_ = false;                  // degraded because the file was taken away; what is written still lands in it
  WriterState state_;
  Error error_;                         // the latest failure, while degraded
  std::chrono::steady_clock::time_point oldest_, retryAt_, nextHeartbeat_, degradedSince_;
  std::chrono::milliseconds pause_{0};
  std::thread thread_;
};

}  // namespace winnow::storage
