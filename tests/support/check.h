// SPDX-License-Identifier: GPL-3.0-or-later
// The engine's checks, without Qt. TEST(name) { EXPECT(...); } in a file that ends with nothing: main() is here (unless WINNOW_OWN_MAIN).
// `program [substring]` runs the tests whose name contains it. A test that calls SKIP(reason) is reported; a program whose tests were
// all skipped exits 77. With the shared data absent, tests that need it skip.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <unistd.h>

namespace winnow::test {

struct Skipped {
  std::string reason;
};
struct Case {
  const char* name;
  void (*body)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}
struct Register {
  Register(const char* name, void (*body)()) { cases().push_back({name, body}); }
};
template <class... Values>
void fail(const char* file, int line, const char* what, const Values&... values) {
  std::ostringstream text;
  ((text << " " << values), ...);
  std::fprintf(stderr, "%s:%d: %s%s\n", file, line, what, text.str().c_str());
  ++failures();
}

// A file of the shared test data, or a skip that says which is missing.
inline std::string sharedData(const std::string& relative) {
  const std::string path = std::string(WINNOW_SHARED_DATA) + "/" + relative;
  if (!std::filesystem::exists(path)) throw Skipped{"shared test data not present: " + relative};
  return path;
}
inline std::string readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
// A folder of this test's own, emptied at the start of the program.
inline std::filesystem::path scratch() {
  static const std::filesystem::path path = [] {
    auto p = std::filesystem::temp_directory_path() / ("winnow-test-" + std::to_string(static_cast<long>(::getpid())));
    std::filesystem::remove_all(p);
    std::filesystem::create_directories(p);
    return p;
  }();
  return path;
}

inline int runAll(int argc, char** argv) {
  int run = 0, skipped = 0;
  for (const Case& test : cases()) {
    if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
    const int before = failures();
    try {
      test.body();
      ++run;
      std::printf("%s %s\n", failures() == before ? "pass" : "FAIL", test.name);
    } catch (const Skipped& s) {
      ++skipped;
      std::printf("skip %s: %s\n", test.name, s.reason.c_str());
    } catch (const std::exception& e) {
      ++run;
      ++failures();
      std::printf("FAIL %s: exception: %s\n", test.name, e.what());
    }
  }
  std::filesystem::remove_all(scratch());
  std::printf("%d run, %d skipped, %d failures\n", run, skipped, failures());
  if (failures() > 0) return 1;
  return run == 0 ? 77 : 0;
}

}  // namespace winnow::test

#define TEST(name)                                                                \
  static void test_##name();                                                      \
  static const ::winnow::test::Register register_##name(#name, &test_##name);     \
  static void test_##name()
#define EXPECT(condition, ...)                                                                             \
  do {                                                                                                     \
    if (!(condition)) ::winnow::test::fail(__FILE__, __LINE__, "EXPECT(" #condition ")" __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)
#define EXPECT_EQ(a, b)                                                                                    \
  do {                                                                                                     \
    const auto& va_ = (a);                                                                                 \
    const auto& vb_ = (b);                                                                                 \
    if (!(va_ == vb_)) ::winnow::test::fail(__FILE__, __LINE__, #a " == " #b ":", va_, "against", vb_);    \
  } while (false)
#define EXPECT_NEAR(a, b, tolerance)                                                                       \
  do {                                                                                                     \
    const double va_ = (a), vb_ = (b), t_ = (tolerance);                                                   \
    if (!(std::fabs(va_ - vb_) <= t_)) ::winnow::test::fail(__FILE__, __LINE__, #a " near " #b ":", va_, "against", vb_, "+-", t_); \
  } while (false)
#define SKIP(reason) throw ::winnow::test::Skipped { reason }

#ifndef WINNOW_OWN_MAIN
int main(int argc, char** argv) { return ::winnow::test::runAll(argc, argv); }
#endif
