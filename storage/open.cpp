// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/open.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "storage/read.h"
#include "storage/schema.h"

namespace winnow::storage {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kFullCheckBytes = uint64_t{64} << 20;  // larger files: all tables but the samples are checked at opening

const char* const kRescueHint =
    "Nothing was changed. Keep a copy of the file, then try: sqlite3 FILE .recover | sqlite3 rescued.winnow";

std::string quoted(const std::string& path) { return "'" + path + "'"; }

Error damaged(const std::string& path, const std::string& found) {
  return {Problem::damaged, quoted(path) + " is damaged (" + found + ")", kRescueHint};
}

uint32_t bigEndian32(const unsigned char* p) { return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3]; }

// The first 100 bytes say whether this is a session at all; SQLite is not asked before.
std::optional<Error> headerProblem(const std::string& path) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) {
    const Problem problem = errno == ENOENT ? Problem::notFound : Problem::io;
    return Error{problem, "can't open " + quoted(path) + ": " + std::strerror(errno), "Check the path and its permissions."};
  }
  unsigned char head[100] = {};
  const size_t got = std::fread(head, 1, sizeof head, file.get());
  const char* const hint = "Choose a file made by Winnow (NAME.winnow). This one was not changed.";
  if (got == 0) return Error{Problem::notASession, quoted(path) + " is not a Winnow session: it is empty", hint};
  if (got < sizeof head || std::memcmp(head, "SQLite format 3", 16) != 0)
    return Error{Problem::notASession, quoted(path) + " is not a Winnow session: it does not begin like an SQLite file", hint};
  if (bigEndian32(head + 68) != static_cast<uint32_t>(kApplicationId)) {
    char id[16];
    std::snprintf(id, sizeof id, "0x%08X", bigEndian32(head + 68));
    return Error{Problem::notASession,
                 quoted(path) + " is not a Winnow session: it is an SQLite file of another program (application id " + id + ", not WNNW)",
                 hint};
  }
  return std::nullopt;
}

std::map<std::string, std::string> schemaOf(Db& db) {
  std::map<std::string, std::string> objects;
  Statement q = db.prepare("SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'");
  while (q.step()) objects[q.text(0)] = q.text(1);
  return objects;
}

// Everything of ours must be as we made it. Tables, views and indexes of the owner's own are welcome; triggers are not: they
// would run inside our writes.
std::optional<Error> schemaProblem(Db& db, const std::string& path) {
  Db fresh(":memory:", Db::Access::create);
  fresh.exec(schemaSql(static_cast<int>(db.integer("PRAGMA user_version"))));
  const auto expected = schemaOf(fresh), found = schemaOf(db);
  for (const auto& [name, sql] : expected) {
    const auto it = found.find(name);
    if (it == found.end()) return damaged(path, "its " + name + " is missing");
    if (it->second != sql) return damaged(path, "its " + name + " was altered");
  }
  for (const auto& [name, sql] : found)
    if (name.rfind("trigger ", 0) == 0 && !expected.count(name)) return damaged(path, "the foreign " + name + " was added");
  return std::nullopt;
}

std::optional<Error> contentProblem(Db& db, const std::string& path) {
  std::error_code ignored;
  const uint64_t size = fs::file_size(path, ignored);
  std::vector<std::string> checks = {"PRAGMA quick_check(1)"};
  if (!ignored && size > kFullCheckBytes) {
    checks.clear();
    for (const char* table : {"session", "owner", "environment", "device", "model", "corpus", "knob", "config", "config_value", "sweep",
                              "run", "sweep_point", "metric", "run_metric"})
      checks.push_back(std::string("PRAGMA quick_check(") + table + ")");
  }
  for (const std::string& check : checks)
    if (const std::string found = db.value(check); found != "ok") return damaged(path, found);
  if (db.integer("SELECT count(*) FROM session") != 1) return damaged(path, "it holds no session record");
  return std::nullopt;
}

// A newer format is read when every statement of this version still makes sense on it.
std::optional<Error> versionProblem(Db& db, const std::string& path, OpenReport& report) {
  const int64_t version = db.integer("PRAGMA user_version");
  if (version >= 1 && version <= kFormatVersion) return std::nullopt;
  if (version < 1) return damaged(path, "its format number is " + std::to_string(version));
  const std::string newer = quoted(path) + " was written by a newer Winnow (format " + std::to_string(version) + ", this one writes " +
                            std::to_string(kFormatVersion) + ")";
  try {
    for (const auto& queries : {listQueries(), perRunQueries()})
      for (const std::string& sql : queries) db.prepare(sql);
  } catch (const SqlError& error) {
    return Error{Problem::newer, newer + " and can't be read: " + error.what(), "Update Winnow. The file was not changed."};
  }
  report.readOnlyReason = newer + "; it can be read, not changed";
  report.readOnlyProblem = Problem::newer;
  return std::nullopt;
}

std::optional<Error> anyProblem(Db& db, const std::string& path, OpenReport& report) {
  if (auto error = versionProblem(db, path, report)) return error;
  if (report.readOnlyReason.empty()) {
    if (auto error = schemaProblem(db, path)) return error;
  }
  return contentProblem(db, path);
}

Status createFile(const std::string& path, const SessionOptions& options) {
  // Made under another name and renamed: a kill in between leaves no half-made session.
  const std::string partial = path + ".new-" + std::to_string(getpid());
  std::error_code ignored;
  fs::remove(partial, ignored);
  try {
    {
      Db db(partial, Db::Access::create, options.vfs);
      db.exec("PRAGMA page_size = " + std::to_string(kPageSize));
      db.pragma("journal_mode", "DELETE", "delete");
      Transaction transaction(db);
      db.exec("PRAGMA application_id = " + std::to_string(kApplicationId));
      db.exec("PRAGMA user_version = " + std::to_string(kFormatVersion));
      db.exec(schemaSql());
      db.run("INSERT INTO session(session_id, uuid, title, created_utc_us) VALUES(1,?,?,?)", makeUuid(), fs::path(path).stem().string(),
             utcMicroseconds());
      transaction.commit();
    }
    if (std::rename(partial.c_str(), path.c_str()) != 0) {
      const std::string why = std::strerror(errno);
      fs::remove(partial, ignored);
      return Error{Problem::io, "can't create " + quoted(path) + ": " + why, "Choose another folder."};
    }
    return Done{};
  } catch (const SqlError& error) {
    fs::remove(partial, ignored);
    fs::remove(partial + "-journal", ignored);
    Error problem = sqlProblem(error, path, "create");
    if (error.primary() == SQLITE_CANTOPEN) {
      const fs::path folder = fs::absolute(path, ignored).parent_path();
      problem.message =
          "can't create " + quoted(path) + ": " +
          (fs::is_directory(folder, ignored) ? "the folder does not allow it" : "there is no folder " + quoted(folder.string()));
      problem.hint = "Choose another folder.";
    }
    return problem;
  }
}

void setUpWriter(Db& db) {
  db.pragma("foreign_keys", "ON", "1");
  db.exec("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384; "
          "PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON");
  // A file system without shared memory declines WAL, and so does a file that somebody is reading just now; the rollback
  // journal is as safe, only slower.
  try {
    db.value("PRAGMA journal_mode = WAL");
  } catch (const SqlError& error) {
    if (error.primary() != SQLITE_BUSY && error.primary() != SQLITE_LOCKED) throw;
  }
}

// An older file gets what the format has gained since.
void upgrade(Db& db) {
  const int64_t version = db.integer("PRAGMA user_version");
  if (version >= kFormatVersion) return;
  db.exec(upgradeSql(static_cast<int>(version)));
  db.exec("PRAGMA user_version = " + std::to_string(kFormatVersion));
}

std::vector<Id> recoverInterrupted(Db& db) {
  std::vector<Id> runs;
  {
    Statement q = db.prepare("SELECT run_id FROM run WHERE status IN('queued','running') ORDER BY run_id");
    while (q.step()) runs.push_back(q.integer(0));
  }
  db.exec("UPDATE run SET status='interrupted', started_utc_us=ifnull(started_utc_us, created_utc_us), "
          "ended_utc_us=max(created_utc_us, ifnull(heartbeat_utc_us, created_utc_us)) WHERE status IN('queued','running')");
  // A sweep goes on where it stopped: what finished counts, what was cut off is to be done again.
  db.exec("UPDATE sweep_point SET state=CASE (SELECT status FROM run r WHERE r.run_id=sweep_point.run_id) "
          "WHEN 'done' THEN 'done' WHEN 'failed' THEN 'failed' ELSE 'todo' END WHERE state='running'");
  db.exec("UPDATE sweep_point SET run_id=NULL WHERE state='todo' AND run_id IS NOT NULL");
  return runs;
}

Result<std::unique_ptr<Db>> openReader(const std::string& path, const SessionOptions& options, OpenReport& report) {
  const auto setUp = [&](Db& db) {
    sqlite3_busy_timeout(db.handle(), options.busyMs);
    db.exec("PRAGMA query_only = ON; PRAGMA cell_size_check = ON");
    db.integer("SELECT count(*) FROM sqlite_schema");
  };
  try {
    auto db = std::make_unique<Db>(path, Db::Access::readOnly, options.vfs);
    setUp(*db);
    return db;
  } catch (const SqlError& error) {
    const int code = error.primary();
    if (code != SQLITE_CANTOPEN && code != SQLITE_READONLY && code != SQLITE_IOERR) return sqlProblem(error, path, "open");
  }
  // A file in WAL mode where no shared memory can be made beside it: read it as it stands.
  try {
    auto db = std::make_unique<Db>(path, Db::Access::immutable, options.vfs);
    setUp(*db);
    std::error_code none;
    if (fs::file_size(path + "-wal", none) > 0 && !none) {
      report.readOnlyReason += (report.readOnlyReason.empty() ? "" : "; ") + std::string("its latest changes lie in ") +
                               quoted(path + "-wal") + ", which can't be read here: copy both files to a folder you can write to";
    }
    return db;
  } catch (const SqlError& error) {
    return sqlProblem(error, path, "open");
  }
}

// Takes the file for writing. No writer and no error: report.readOnlyReason says why it stays read-only.
Result<Opened> openWriter(const std::string& path, const SessionOptions& options, OpenReport& report) {
  Opened opened;
  try {
    auto db = std::make_unique<Db>(path, Db::Access::readWrite, options.vfs);
    sqlite3_busy_timeout(db->handle(), options.busyMs);
    if (db->readOnly()) {
      report.readOnlyReason = "the file is read-only";
      return opened;
    }
    if (auto error = anyProblem(*db, path, report)) return *error;
    if (!report.readOnlyReason.empty()) return opened;
    db->pragma("foreign_keys", "ON", "1");
    {
      Transaction transaction(*db);
      opened.ownership = std::make_unique<Ownership>(*db);
      if (!opened.ownership->claimed()) {
        report.readOnlyReason = "another Winnow has it open (" + opened.ownership->holder() + ")";
        report.readOnlyProblem = Problem::locked;
        opened.ownership.reset();
        return opened;
      }
      upgrade(*db);
      report.interrupted = recoverInterrupted(*db);
      transaction.commit();
    }
    setUpWriter(*db);
    opened.writer = std::move(db);
    return opened;
  } catch (const SqlError& error) {
    report.interrupted.clear();
    opened.ownership.reset();
    switch (error.primary()) {
      case SQLITE_READONLY:
      case SQLITE_CANTOPEN:
      case SQLITE_PERM: report.readOnlyReason = "the file or its folder can't be written to"; return opened;
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        report.readOnlyReason = "another program is holding it locked";
        report.readOnlyProblem = Problem::locked;
        return opened;
      case SQLITE_FULL:
        report.readOnlyReason = "the disk is full";
        report.readOnlyProblem = Problem::full;
        return opened;
      default: return sqlProblem(error, path, "open");
    }
  }
}

}  // namespace

Error sqlProblem(const SqlError& error, const std::string& path, const std::string& doing) {
  const std::string cant = "can't " + doing + " " + quoted(path) + ": ";
  switch (error.primary()) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: return damaged(path, error.what());
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {Problem::locked, cant + "another program is holding it locked", "Close the other program, or wait and try again."};
    case SQLITE_READONLY:
    case SQLITE_PERM: return {Problem::readOnly, cant + "it can't be written to", "Check the permissions, or save a copy elsewhere."};
    case SQLITE_FULL: return {Problem::full, cant + "the disk is full", "Free some space, or save a copy on another disk."};
    case SQLITE_CONSTRAINT: return {Problem::refused, cant + error.what(), ""};
    default: return {Problem::io, cant + error.what(), "Check the disk and its permissions, or save a copy elsewhere."};
  }
}

Result<Opened> openFile(const std::string& path, SessionFile::Mode mode, const SessionOptions& options, OpenReport& report) {
  using Mode = SessionFile::Mode;
  std::error_code ignored;
  const bool exists = fs::exists(path, ignored);
  if (exists && fs::is_directory(path, ignored)) return Error{Problem::notASession, quoted(path) + " is a folder, not a session file", ""};
  if (exists && !fs::is_regular_file(path, ignored)) return Error{Problem::notASession, quoted(path) + " is not a regular file", ""};
  if (mode == Mode::create && exists)
    return Error{Problem::refused, quoted(path) + " exists already", "Choose another name: nothing is overwritten."};
  const bool empty = exists && fs::file_size(path, ignored) == 0;
  if (mode == Mode::create || (mode == Mode::openOrCreate && (!exists || empty))) {
    if (Status made = createFile(path, options); !made) return made.error();
  }
  if (auto error = headerProblem(path)) return *error;

  Opened opened;
  if (mode != Mode::readOnly) {
    Result<Opened> writing = openWriter(path, options, report);
    if (!writing) return writing.error();
    opened = std::move(*writing);
  }
  report.readOnly = !opened.writer;
  auto reader = openReader(path, options, report);
  if (!reader) return reader.error();
  opened.reader = std::move(*reader);
  try {
    if (!opened.writer) {
      OpenReport version;
      if (auto error = anyProblem(*opened.reader, path, version)) return *error;
      if (report.readOnlyReason.empty())
        report.readOnlyReason = version.readOnlyReason.empty() ? "it was opened for reading" : version.readOnlyReason;
    }
    opened.lastRun = opened.reader->integer("SELECT max(run_id) FROM run");
    opened.lastSweep = opened.reader->integer("SELECT max(sweep_id) FROM sweep");
  } catch (const SqlError& error) {
    return sqlProblem(error, path, "read");
  }
  return opened;
}

}  // namespace winnow::storage
