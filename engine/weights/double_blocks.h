// SPDX-License-Identifier: GPL-3.0-or-later
// What factors of symmetric matrices in double are computed by: blocks that stay in a processor's first cache, and items that threads take in turn.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

#include "engine/core/threads.h"

namespace winnow {

constexpr int64_t kDoubleBlock = 64;
using DoubleBlock = std::array<double, kDoubleBlock * kDoubleBlock>;

// Calls body(item) for 0 <= item < count, each once on some thread.
template <class Body>
void eachItem(ThreadPool& pool, int64_t count, Body&& body) {
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    for (int64_t item; (item = next.fetch_add(1)) < count;) body(item);
  });
}

}  // namespace winnow
