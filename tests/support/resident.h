// SPDX-License-Identifier: GPL-3.0-or-later
// What the operating system says this process holds.
#pragma once
#include <cstdint>
#include <fstream>
#include <string>

namespace winnow::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kOwnMemory = false;  // a sanitizer's allocator keeps memory of its own
#else
constexpr bool kOwnMemory = true;
#endif

// Resident memory that no file backs, in bytes; -1 where the system does not tell.
inline int64_t residentBytes() {
  std::ifstream in("/proc/self/status");
  std::string word;
  while (in >> word)
    if (word == "RssAnon:") {
      int64_t kib = 0;
      in >> kib;
      return kib * 1024;
    }
  return -1;
}

}  // namespace winnow::test
