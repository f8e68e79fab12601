// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/check.h"

#include <atomic>
#include <new>

#include "engine/core/memory.h"
#include "engine/core/published.h"
#include "engine/core/recycled_memory.h"
#include "engine/core/threads.h"

using namespace winnow;

TEST(ledger_balances_and_keeps_the_peak) {
  Ledger ledger;
  {
    Buffer a(ledger, MemoryTag::kv, 1000);
    Buffer b(ledger, MemoryTag::weights, 5 << 20);  // mapped
    EXPECT_EQ(ledger.bytes(MemoryTag::kv), 1000);
    EXPECT_EQ(ledger.total(), 1000 + (5 << 20));
    Buffer c = std::move(b);
    EXPECT_EQ(ledger.total(), 1000 + (5 << 20));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data()) % 64, uintptr_t{0});
    bool zero = true;
    for (int i = 0; i < 5 << 20; ++i) zero &= c.as<char>()[i] == 0;
    EXPECT(zero);
  }
  EXPECT_EQ(ledger.total(), 0);
  EXPECT_EQ(ledger.peak(), 1000 + (5 << 20));
}

TEST(planning_ledger_counts_without_memory) {
  Ledger plan(true);
  Buffer huge(plan, MemoryTag::weights, size_t{1} << 50);
  EXPECT(huge.data() == nullptr);
  EXPECT_EQ(plan.total(), int64_t{1} << 50);
}

TEST(pool_runs_every_thread_once_per_call) {
  for (int threads = 1; threads <= 5; ++threads) {
    ThreadPool pool(threads);
    std::atomic<int> calls{0};
    std::vector<std::atomic<int>> per(static_cast<size_t>(threads));
    for (int round = 0; round < 500; ++round)
      pool.run([&](int thread, int n) {
        EXPECT_EQ(n, threads);
        ++per[static_cast<size_t>(thread)];
        ++calls;
      });
    EXPECT_EQ(calls.load(), 500 * threads);
    for (auto& p : per) EXPECT_EQ(p.load(), 500);
  }
}

TEST(pool_hands_on_what_a_job_throws) {
  for (int threads = 1; threads <= 3; ++threads) {
    ThreadPool pool(threads);
    for (int thrower = 0; thrower < threads; ++thrower) {
      std::atomic<int> calls{0};
      bool caught = false;
      try {
        pool.run([&](int thread, int) {
          ++calls;
          if (thread == thrower) throw std::bad_alloc();
        });
      } catch (const std::bad_alloc&) {
        caught = true;
      }
      EXPECT(caught);
      EXPECT_EQ(calls.load(), threads);  // all had their turn before it came out
    }
    std::atomic<int> after{0};
    pool.run([&](int, int) { ++after; });
    EXPECT_EQ(after.load(), threads);
  }
}

TEST(split_covers_everything_once) {
  for (int64_t n : {0, 1, 7, 16, 17, 1000})
    for (int threads : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int t = 0; t < threads; ++t) {
        const auto range = ThreadPool::split(n, 16, t, threads);
        EXPECT_EQ(range.begin, next);
        next = range.end;
      }
      EXPECT_EQ(next, n);
    }
}

TEST(published_value_is_what_was_set) {
  Published<int> p;
  EXPECT(p.get() == nullptr);
  p.set(std::make_shared<int>(7));
  EXPECT_EQ(*p.get(), 7);
}

// What is left is counted while it waits, taken by buffers of its size that will be written whole and by no other, and gone with the scope.
TEST(memory_that_is_left_is_taken_by_what_is_written_whole) {
  constexpr size_t kBytes = size_t{3} << 20;
  Ledger ledger, another;
  Buffer old(ledger, MemoryTag::weights, kBytes);
  *old.as<int>() = 7;
  {
    const RecycledMemory recycled;
    const auto overwritten = [&](size_t bytes) {
      const RecycledMemory::Taking taking;
      return Buffer(ledger, MemoryTag::weights, bytes);
    };
    Buffer first = overwritten(kBytes);
    EXPECT_EQ(*first.as<int>(), 0);
    void* const place = old.data();
    old = Buffer();
    EXPECT_EQ(ledger.bytes(MemoryTag::weights), static_cast<int64_t>(2 * kBytes));  // one waits
    const int elsewhere = *Buffer(another, MemoryTag::weights, kBytes).as<int>(), larger = *overwritten(2 * kBytes).as<int>();
    EXPECT(elsewhere == 0 && larger == 0, elsewhere, larger);
    EXPECT_EQ(another.total(), int64_t{0});
    {
      const Buffer zeroed(ledger, MemoryTag::weights, kBytes);
      EXPECT(zeroed.data() != place && *zeroed.as<int>() == 0);
    }
    const Buffer second = overwritten(kBytes);
    EXPECT(second.data() != nullptr);
    Buffer third = overwritten(kBytes);
    EXPECT(second.data() == place || third.data() == place);
  }
  EXPECT_EQ(ledger.total(), int64_t{0});
  EXPECT_EQ(ledger.peak(), static_cast<int64_t>(5 * kBytes));
}
