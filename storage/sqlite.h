// SPDX-License-Identifier: GPL-3.0-or-later
// A thin RAII wrapper over SQLite's C API. Inside storage a failed call throws SqlError; the public functions turn it into an Error.
#pragma once
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct sqlite3;
struct sqlite3_stmt;

namespace winnow::storage {

class SqlError : public std::exception {
 public:
  SqlError(int code, std::string message) : code_(code), message_(std::move(message)) {}
  int code() const { return code_; }             // extended result code
  int primary() const { return code_ & 0xff; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  int code_;
  std::string message_;
};

struct Blob {
  const void* data = nullptr;
  size_t size = 0;
};

class Statement {
 public:
  Statement(sqlite3* db, std::string_view sql);
  Statement(Statement&& other) noexcept : db_(other.db_), stmt_(std::exchange(other.stmt_, nullptr)), next_(other.next_) {}
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  // Binds the next parameter; a NaN becomes NULL.
  Statement& add(int64_t value);
  Statement& add(int value) { return add(static_cast<int64_t>(value)); }
  Statement& add(bool value) { return add(static_cast<int64_t>(value)); }
  Statement& add(double value);
  Statement& add(std::string_view text);  // copied
  Statement& add(const std::string& text) { return add(std::string_view(text)); }
  Statement& add(const char* text) { return add(std::string_view(text)); }
  Statement& add(Blob blob);              // copied
  Statement& add(std::nullptr_t);
  template <class T>
  Statement& add(const std::optional<T>& value) {
    return value ? add(*value) : add(nullptr);
  }
  template <class... Values>
  Statement& bind(const Values&... values) {
    reset();
    (add(values), ...);
    return *this;
  }

  bool step();   // true = a row
  void run();    // to the end, then reset
  void reset();  // and clears the bindings

  bool isNull(int column) const;
  int64_t integer(int column) const;
  double real(int column) const;                    // NULL reads as NaN
  std::optional<double> realOrNone(int column) const;
  std::optional<int64_t> integerOrNone(int column) const;
  std::string text(int column) const;
  std::string bytes(int column) const;

 private:
  void check(int code) const;
  sqlite3* db_;
  sqlite3_stmt* stmt_ = nullptr;
  int next_ = 0;
};

// Resets a cached statement when the reading is over: an open read transaction would stop checkpoints.
class Query {
 public:
  explicit Query(Statement& statement) : statement_(statement) {}
  ~Query() { statement_.reset(); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  Statement* operator->() { return &statement_; }

 private:
  Statement& statement_;
};

class Db {
 public:
  enum class Access { readWrite, create, readOnly, immutable };
  Db(const std::string& path, Access access, const std::string& vfs = {});
  ~Db();
  Db(const Db&) = delete;
  Db& operator=(const Db&) = delete;

  void exec(const std::string& sql);
  Statement prepare(std::string_view sql) { return Statement(db_, sql); }
  // Prepared once per connection. The text must outlive the connection (a literal).
  Statement& cached(const char* sql);
  template <class... Values>
  void run(const char* sql, const Values&... values) {
    cached(sql).bind(values...).run();
  }
  // The first column of the first row, as text; "" when there is none.
  std::string value(const std::string& sql);
  int64_t integer(const std::string& sql);
  // Sets a pragma and reads it back: SQLite may decline without an error.
  void pragma(const std::string& name, const std::string& set, const std::string& expected);

  bool readOnly() const;
  bool inTransaction() const;
  int64_t changes() const;
  int64_t lastId() const;
  bool moved() const;  // the file was deleted or replaced under us
  void interrupt();
  void forgetStatements() { statements_.clear(); }
  sqlite3* handle() const { return db_; }

 private:
  sqlite3* db_ = nullptr;
  std::map<const char*, Statement> statements_;
};

// BEGIN IMMEDIATE ... commit(); without it, rolled back.
class Transaction {
 public:
  explicit Transaction(Db& db);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Db& db_;
  bool open_ = true;
};

}  // namespace winnow::storage
