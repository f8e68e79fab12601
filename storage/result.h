// SPDX-License-Identifier: GPL-3.0-or-later
// A value, or what went wrong with a session file. Storage stands alone, so it has its own error kinds (engine has others).
#pragma once
#include <string>
#include <utility>
#include <variant>

namespace winnow::storage {

enum class Problem { notASession, newer, damaged, locked, readOnly, full, io, notFound, refused };

struct Error {
  Problem problem = Problem::io;
  std::string message;  // one sentence: which file, what was found, what was expected
  std::string hint;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  explicit operator bool() const { return v_.index() == 0; }
  T& operator*() & { return std::get<0>(v_); }
  const T& operator*() const& { return std::get<0>(v_); }
  T operator*() && { return std::get<0>(std::move(v_)); }  // a value: `for (x : *f())` must not outlive the result
  T* operator->() { return &std::get<0>(v_); }
  const T* operator->() const { return &std::get<0>(v_); }
  const Error& error() const { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace winnow::storage
