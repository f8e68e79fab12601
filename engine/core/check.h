// SPDX-License-Identifier: GPL-3.0-or-later
// CHECK(condition, values...) throws CheckFailure with file, line and the values. For broken invariants only; what a
// person typed or opened is answered with Result.
#pragma once
#include <sstream>
#include <stdexcept>

namespace winnow {

struct CheckFailure : std::logic_error {
  using std::logic_error::logic_error;
};

template <class... Values>
[[noreturn]] void checkFailed(const char* file, int line, const char* condition, const Values&... values) {
  std::ostringstream text;
  text << file << ":" << line << ": CHECK(" << condition << ") failed";
  ((text << " " << values), ...);
  throw CheckFailure(text.str());
}

}  // namespace winnow

#define CHECK(condition, ...)                                                                      \
  do {                                                                                             \
    if (!(condition)) [[unlikely]]                                                                 \
      ::winnow::checkFailed(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__);            \
  } while (false)
