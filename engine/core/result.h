// SPDX-License-Identifier: GPL-3.0-or-later
// Result<T>: a value or an Error that is fit to be shown to a person. For user input (files, prompts, plans).
// Broken invariants use CHECK (check.h).
#pragma once
#include <string>
#include <utility>
#include <variant>

namespace winnow {

enum class ErrorCode : int {  // the numbers are the exit codes of winnow-cli
  failed = 1,                 // the run or I/O failed
  usage = 2,                  // unknown knob, value out of range, wrong arguments
  badInput = 3,               // a file or text that can't be used
  resources = 4,              // not enough memory, no such device
  cancelled = 5,
};

struct Error {
  ErrorCode code = ErrorCode::failed;
  std::string message;  // one sentence: what, where, what was found, what was expected
  std::string hint;     // what to do about it; may be empty
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(v_); }
  const T& value() const& { return std::get<0>(v_); }
  T&& value() && { return std::get<0>(std::move(v_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

struct Done {};  // the value of a Result that has nothing to say
using Status = Result<Done>;

}  // namespace winnow
