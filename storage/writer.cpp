// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/writer.h"

#include <sqlite3.h>

#include <algorithm>

namespace winnow::storage {

using Clock = std::chrono::steady_clock;

namespace {

constexpr int64_t kMostRowsAtOnce = 40'000;
constexpr std::chrono::seconds kHeartbeat{60};

// An event of a run that is still running; a finished one can't be told any more.
void tell(Db& db, Id run, const char* code, const std::string& text) {
  db.run("INSERT INTO event SELECT r.run_id, coalesce((SELECT max(seq)+1 FROM event e WHERE e.run_id=r.run_id), 0), "
         "max(0, (?1 - r.started_utc_us) * 1000), 'warning', ?2, ?3 FROM run r WHERE r.run_id=?4 AND r.status='running'",
         utcMicroseconds(), code, text, run);
}

void tellLost(Db& db, std::map<Id, Lost>& lost, Id run) {
  const auto it = lost.find(run);
  if (it == lost.end()) return;
  tell(db, run, "storage.dropped", std::to_string(it->second.rows) + " samples were not stored: " + it->second.why);
  lost.erase(it);
}

Outcome applyOne(Db& db, const Task& task) {
  Outcome outcome;
  if (task.rowwise) {
    task.apply(db, outcome);
    return outcome;
  }
  db.run("SAVEPOINT task");
  try {
    task.apply(db, outcome);
    db.run("RELEASE task");
  } catch (const SqlError& error) {
    if (!rowAtFault(error) || !db.inTransaction()) throw;
    outcome = {};
    outcome.refused = task.rows;
    outcome.why = error.what();
    db.run("ROLLBACK TO task");
    db.run("RELEASE task");
  }
  return outcome;
}

}  // namespace

int64_t applyTasks(Db& db, const std::vector<Task>& tasks, std::map<Id, Lost> lost, std::map<Id, Lost>& refused) {
  int64_t written = 0;
  std::map<Id, int64_t> tokens;  // counted once a batch, not once a token
  for (const Task& task : tasks) {
    if (task.ends) {
      tellLost(db, lost, task.run);
      if (const auto it = tokens.find(task.run); it != tokens.end()) countTokens(db, it->first, std::exchange(it->second, 0));
    }
    const Outcome outcome = applyOne(db, task);
    written += outcome.written;
    if (outcome.tokens) tokens[task.run] += outcome.tokens;
    if (outcome.refused == 0) continue;
    for (auto* list : {&refused, &lost}) {
      Lost& entry = (*list)[task.run];
      entry.rows += outcome.refused;
      entry.why = outcome.why;
    }
  }
  for (const auto& [run, count] : tokens)
    if (count) countTokens(db, run, count);
  while (!lost.empty()) tellLost(db, lost, lost.begin()->first);
  return written;
}

Writer::Writer(std::unique_ptr<Db> db, std::unique_ptr<Ownership> ownership, std::string path, const SessionOptions& options)
    : db_(std::move(db)),
      ownership_(std::move(ownership)),
      path_(std::move(path)),
      options_(options),
      nextHeartbeat_(Clock::now() + kHeartbeat) {
  thread_ = std::thread([this] { loop(); });
}

Writer::~Writer() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Writer::post(Task task) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (closed_ || closing_) return false;
    const size_t limit = task.weight == Weight::expendable ? options_.queueBytes / 4 * 3 : options_.queueBytes;
    if (task.weight != Weight::essential && queuedBytes_ + task.bytes > limit) {
      state_.dropped += task.rows;
      Lost& lost = lost_[task.run];
      lost.rows += task.rows;
      lost.why = state_.degraded ? state_.problem : "the disk did not keep up";
      return false;
    }
    if (queue_.empty()) oldest_ = Clock::now();
    wake = queue_.empty() || (queuedRows_ < options_.commitRows && queuedRows_ + task.rows >= options_.commitRows);
    queuedRows_ += task.rows;
    queuedBytes_ += task.bytes;
    ++posted_;
    queue_.push_back(std::move(task));
  }
  if (wake) wake_.notify_one();
  return true;
}

Status Writer::flush() {
  Lock lock(mutex_);
  if (closed_) return Done{};
  const int64_t target = posted_, before = begun_;
  flushAt_ = std::max(flushAt_, target);
  retryNow_ = true;
  wake_.notify_one();
  // An attempt that began before this call may lack the newest tasks: only a later one counts as refused.
  answered_.wait(lock, [&] { return closed_ || settled_ >= target || (blocked() && ended_ > before); });
  if (settled_ < target || moved_) return error_;
  return Done{};
}

Status Writer::call(Work work, const std::string& doing) {
  Request request{std::move(work), doing, std::nullopt};
  Lock lock(mutex_);
  if (closed_) return Error{Problem::refused, "the session is closed", ""};
  requests_.push_back(&request);
  retryNow_ = true;
  wake_.notify_one();
  answered_.wait(lock, [&] { return request.answer.has_value(); });
  return *request.answer;
}

WriterState Writer::state() const {
  const std::scoped_lock lock(mutex_);
  WriterState state = state_;
  state.queued = queuedRows_ + batchRows_;
  return state;
}

bool Writer::closed() const {
  const std::scoped_lock lock(mutex_);
  return closed_;
}

void Writer::loop() {
  Lock lock(mutex_);
  for (;;) {
    wait(lock);
    const bool last = stop_;
    attempt(lock);
    if (batch_.empty() || blocked()) serve(lock);
    answered_.notify_all();
    if (closed_ || (last && (blocked() || (queue_.empty() && batch_.empty())))) break;
  }
  closed_ = true;
  for (Request* request : requests_) request->answer = Error{Problem::refused, "the session is closed", ""};
  requests_.clear();
  lock.unlock();
  answered_.notify_all();
  db_.reset();
  ownership_.reset();
}

void Writer::wait(Lock& lock) {
  for (;;) {
    const auto now = Clock::now();
    if (stop_ || !requests_.empty()) return;
    auto until = nextHeartbeat_;
    if (blocked()) {
      if (retryNow_) return;
      until = retryAt_;
    } else if (!queue_.empty()) {
      if (queuedRows_ >= options_.commitRows || flushAt_ > settled_) return;
      until = std::min(until, oldest_ + options_.commitEvery);
    }
    if (now >= until) return;
    wake_.wait_until(lock, until);
  }
}

// Moves what is queued into the batch and commits it. The lock is released meanwhile.
void Writer::attempt(Lock& lock) {
  while (!queue_.empty() && batchRows_ < kMostRowsAtOnce) {
    batchRows_ += queue_.front().rows;
    queuedRows_ -= queue_.front().rows;
    batch_.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  if (!queue_.empty()) oldest_ = Clock::now();
  const bool heartbeat = Clock::now() >= nextHeartbeat_;
  if (batch_.empty() && lost_.empty() && !heartbeat && !blocked()) return;
  ++begun_;
  retryNow_ = false;
  const std::map<Id, Lost> told = lost_;
  const bool recovered = blocked();
  lock.unlock();
  std::map<Id, Lost> refused;
  std::optional<Error> error;
  int64_t rows = 0;
  try {
    rows = commitBatch(told, refused, recovered);
  } catch (const SqlError& e) {
    error = sqlProblem(e, path_, "write to");
  } catch (const std::exception& e) {
    error = Error{Problem::io, "can't write to '" + path_ + "': " + e.what(), ""};
  }
  const std::string moved = error ? std::string() : movedProblem();
  lock.lock();
  ended_ = begun_;
  if (error) {
    failed(*error);
    return;
  }
  succeeded(rows, refused, told);
  moved_ = !moved.empty();
  if (moved_) {
    state_.degraded = true;
    state_.problem = moved;
    error_ = {Problem::io, moved, "Save a copy of the session now: everything is still in it."};
  }
}

void Writer::succeeded(int64_t rows, const std::map<Id, Lost>& refused, const std::map<Id, Lost>& told) {
  settled_ += static_cast<int64_t>(batch_.size());
  for (const Task& task : batch_) queuedBytes_ -= task.bytes;
  batch_.clear();
  batchRows_ = 0;
  for (const auto& [run, t] : told) {
    Lost& lost = lost_[run];
    if ((lost.rows -= t.rows) <= 0) lost_.erase(run);
  }
  state_.written += rows;
  state_.lastCommitUs = utcMicroseconds();
  state_.degraded = false;
  state_.problem.clear();
  pause_ = std::chrono::milliseconds{0};
  for (const auto& [run, r] : refused) {
    state_.dropped += r.rows;
    state_.problem = std::to_string(r.rows) + " rows of run " + std::to_string(run) + " were refused: " + r.why;
  }
  nextHeartbeat_ = Clock::now() + kHeartbeat;
}

void Writer::failed(const Error& error) {
  if (!blocked()) degradedSince_ = Clock::now();
  moved_ = false;
  state_.degraded = true;
  state_.problem = error.message;
  error_ = error;
  pause_ = pause_.count() == 0 ? options_.retryFirst : std::min(pause_ * 2, options_.retryMost);
  retryAt_ = Clock::now() + pause_;
  nextHeartbeat_ = Clock::now() + kHeartbeat;
}

// One transaction. Throws when the disk or another program is in the way, with nothing changed.
int64_t Writer::commitBatch(const std::map<Id, Lost>& lost, std::map<Id, Lost>& refused, bool recovered) {
  Transaction transaction(*db_);
  const int64_t written = applyTasks(*db_, batch_, lost, refused);
  if (recovered) {
    const auto held = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - degradedSince_).count();
    std::vector<Id> running;
    {
      Query q(db_->cached("SELECT run_id FROM run WHERE status IN('queued','running')").bind());
      while (q->step()) running.push_back(q->integer(0));
    }
    for (const Id run : running)
      tell(*db_, run, "storage.delayed", "writing was held up for " + std::to_string(held) + " ms; what waited is stored now");
  }
  Ownership::heartbeat(*db_, ownership_->token(), utcMicroseconds());
  transaction.commit();
  return written;
}

std::string Writer::movedProblem() {
  return db_->moved() ? "'" + path_ + "' was deleted, moved or replaced while it was open; the session lives on in the deleted file"
                      : std::string();
}

// Requests see either nothing waiting, or what the disk refuses.
void Writer::serve(Lock& lock) {
  while (!requests_.empty() && !closed_) {
    if (!blocked() && (!queue_.empty() || !batch_.empty())) return;  // the next round commits those first
    Request* request = requests_.front();
    requests_.pop_front();
    if (blocked()) {
      batchRows_ += queuedRows_;
      queuedRows_ = 0;
      std::move(queue_.begin(), queue_.end(), std::back_inserter(batch_));
      queue_.clear();
    }
    lock.unlock();
    Status answer = Done{};
    try {
      answer = request->work(*db_, batch_);
    } catch (const SqlError& e) {
      answer = sqlProblem(e, path_, request->doing);
    } catch (const std::exception& e) {
      answer = Error{Problem::io, "can't " + request->doing + " '" + path_ + "': " + e.what(), ""};
    }
    lock.lock();
    request->answer = answer;
  }
}

Status Writer::close() {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return Done{};
    closing_ = true;
  }
  Status status = flush();
  const bool lostPlace = [this] {
    const std::scoped_lock lock(mutex_);
    return moved_;
  }();
  if (status || lostPlace) {
    const Status tidied = call([this](Db& db, std::vector<Task>&) { return tidy(db); }, "close");
    if (status) status = tidied;
  }
  bool done = false;
  {
    const std::scoped_lock lock(mutex_);
    closing_ = false;
    done = closed_;
  }
  if (done && thread_.joinable()) thread_.join();
  return status;
}

Status Writer::tidy(Db& db) {
  Ownership::release(db, ownership_->token());
  db.forgetStatements();
  // Both need the file for themselves. A reader elsewhere only delays them: the last one to close tidies up.
  try {
    db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    db.value("PRAGMA journal_mode = DELETE");
  } catch (const SqlError& error) {
    if (error.primary() != SQLITE_BUSY && error.primary() != SQLITE_LOCKED) throw;
  }
  const std::scoped_lock lock(mutex_);
  closed_ = true;
  return Done{};
}

}  // namespace winnow::storage
