// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/sqlite.h"

#include <sqlite3.h>

#include <cmath>
#include <limits>

namespace winnow::storage {

namespace {
[[noreturn]] void fail(sqlite3* db, int code) {
  throw SqlError(db ? sqlite3_extended_errcode(db) : code, db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
}
}  // namespace

Statement::Statement(sqlite3* db, std::string_view sql) : db_(db) {
  check(sqlite3_prepare_v3(db, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &stmt_, nullptr));
}

Statement::~Statement() { sqlite3_finalize(stmt_); }

void Statement::check(int code) const {
  if (code != SQLITE_OK) fail(db_, code);
}

Statement& Statement::add(int64_t value) {
  check(sqlite3_bind_int64(stmt_, ++next_, value));
  return *this;
}

Statement& Statement::add(double value) {
  check(std::isnan(value) ? sqlite3_bind_null(stmt_, ++next_) : sqlite3_bind_double(stmt_, ++next_, value));
  return *this;
}

Statement& Statement::add(std::string_view text) {
  check(sqlite3_bind_text64(stmt_, ++next_, text.data() ? text.data() : "", text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

Statement& Statement::add(Blob blob) {
  check(sqlite3_bind_blob64(stmt_, ++next_, blob.data ? blob.data : "", blob.size, SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::add(std::nullptr_t) {
  check(sqlite3_bind_null(stmt_, ++next_));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(stmt_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  SqlError error(sqlite3_extended_errcode(db_), sqlite3_errmsg(db_));
  sqlite3_reset(stmt_);
  throw error;
}

void Statement::run() {
  while (step()) {
  }
  sqlite3_reset(stmt_);
}

void Statement::reset() {
  sqlite3_reset(stmt_);
  sqlite3_clear_bindings(stmt_);
  next_ = 0;
}

bool Statement::isNull(int column) const { return sqlite3_column_type(stmt_, column) == SQLITE_NULL; }
int64_t Statement::integer(int column) const { return sqlite3_column_int64(stmt_, column); }

double Statement::real(int column) const {
  return isNull(column) ? std::numeric_limits<double>::quiet_NaN() : sqlite3_column_double(stmt_, column);
}

std::optional<double> Statement::realOrNone(int column) const {
  if (isNull(column)) return std::nullopt;
  return sqlite3_column_double(stmt_, column);
}

std::optional<int64_t> Statement::integerOrNone(int column) const {
  if (isNull(column)) return std::nullopt;
  return integer(column);
}

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(stmt_, column));
  return data ? std::string(data, static_cast<size_t>(sqlite3_column_bytes(stmt_, column))) : std::string();
}

std::string Statement::bytes(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(stmt_, column));
  return data ? std::string(data, static_cast<size_t>(sqlite3_column_bytes(stmt_, column))) : std::string();
}

namespace {
// file: URIs need these three escaped; every other byte stands for itself.
std::string fileUri(const std::string& path, const char* parameters) {
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '%') uri += "%25";
    else if (c == '?') uri += "%3f";
    else if (c == '#') uri += "%23";
    else uri += c;
  }
  return uri + parameters;
}
}  // namespace

Db::Db(const std::string& path, Access access, const std::string& vfs) {
  int flags = SQLITE_OPEN_NOMUTEX;
  std::string name = path;
  switch (access) {
    case Access::readWrite: flags |= SQLITE_OPEN_READWRITE; break;
    case Access::create: flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE; break;
    case Access::readOnly: flags |= SQLITE_OPEN_READONLY; break;
    case Access::immutable:
      flags |= SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
      name = fileUri(path, "?immutable=1");
      break;
  }
  const int code = sqlite3_open_v2(name.c_str(), &db_, flags, vfs.empty() ? nullptr : vfs.c_str());
  if (code != SQLITE_OK) {
    SqlError error(db_ ? sqlite3_extended_errcode(db_) : code, db_ ? sqlite3_errmsg(db_) : sqlite3_errstr(code));
    sqlite3_close(db_);
    throw error;
  }
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_busy_timeout(db_, 5000);
  // Session files travel by e-mail: their schema is not trusted, and nothing in SQL may corrupt the file.
  int on = 0;
  sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, &on);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, &on);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, &on);
  sqlite3_limit(db_, SQLITE_LIMIT_LENGTH, 512 << 20);
  sqlite3_limit(db_, SQLITE_LIMIT_ATTACHED, 1);  // VACUUM INTO attaches one
}

Db::~Db() {
  statements_.clear();
  sqlite3_close_v2(db_);
}

void Db::exec(const std::string& sql) {
  if (const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); code != SQLITE_OK) fail(db_, code);
}

Statement& Db::cached(const char* sql) {
  auto it = statements_.find(sql);
  if (it == statements_.end()) it = statements_.emplace(sql, prepare(sql)).first;
  it->second.reset();
  return it->second;
}

std::string Db::value(const std::string& sql) {
  Statement statement = prepare(sql);
  return statement.step() ? statement.text(0) : std::string();
}

int64_t Db::integer(const std::string& sql) {
  Statement statement = prepare(sql);
  return statement.step() ? statement.integer(0) : 0;
}

void Db::pragma(const std::string& name, const std::string& set, const std::string& expected) {
  exec("PRAGMA " + name + " = " + set);
  const std::string got = value("PRAGMA " + name);
  if (got != expected) throw SqlError(SQLITE_IOERR, "PRAGMA " + name + " is " + got + ", not " + expected);
}

bool Db::readOnly() const { return sqlite3_db_readonly(db_, "main") != 0; }
bool Db::inTransaction() const { return sqlite3_get_autocommit(db_) == 0; }
int64_t Db::changes() const { return sqlite3_changes64(db_); }
int64_t Db::lastId() const { return sqlite3_last_insert_rowid(db_); }

bool Db::moved() const {
  int moved = 0;
  return sqlite3_file_control(db_, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved != 0;
}

void Db::interrupt() { sqlite3_interrupt(db_); }

Transaction::Transaction(Db& db) : db_(db) { db_.exec("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  if (!open_ || !db_.inTransaction()) return;  // SQLite itself rolls back on some errors
  try {
    db_.exec("ROLLBACK");
  } catch (const SqlError&) {
    // Nothing more can be done here; the journal undoes it at the next open.
  }
}

void Transaction::commit() {
  db_.exec("COMMIT");
  open_ = false;
}

}  // namespace winnow::storage
