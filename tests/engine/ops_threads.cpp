// SPDX-License-Identifier: GPL-3.0-or-later
// The pool where waiting ends in sleep: more threads than processors, slow workers, pauses between calls. Run it under TSan.
#include "tests/support/check.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "engine/core/threads.h"

using namespace winnow;

namespace {
void sleepFor(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }
}  // namespace

TEST(pool_hands_out_every_round_once) {
  for (int threads : {2, 3, 16}) {
    ThreadPool pool(threads);
    std::vector<int> plain(static_cast<size_t>(threads));  // not atomic: rounds must be ordered
    for (int round = 0; round < 3000; ++round) pool.run([&](int thread, int) { ++plain[static_cast<size_t>(thread)]; });
    for (int calls : plain) EXPECT_EQ(calls, 3000);
  }
}

TEST(pool_wakes_sleeping_workers_and_callers) {
  ThreadPool pool(4);
  int sum = 0;
  for (int round = 0; round < 60; ++round) {
    std::atomic<int> calls{0};
    pool.run([&](int thread, int) {
      if (thread == 1 + round % 3) sleepFor(400);  // the caller sleeps until the last worker is done
      calls.fetch_add(1);
    });
    EXPECT_EQ(calls.load(), 4);
    sum += calls.load();
    if (round % 4 == 0) sleepFor(600);  // the workers sleep until the next call
  }
  EXPECT_EQ(sum, 240);
}

TEST(pools_of_several_callers_do_not_disturb_each_other) {
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      ThreadPool pool(3);
      for (int round = 0; round < 700; ++round) {
        int64_t parts[3] = {};
        pool.run([&](int thread, int threads) {
          const auto range = ThreadPool::split(1000, 8, thread, threads);
          for (int64_t i = range.begin; i < range.end; ++i) parts[thread] += i;
        });
        if (parts[0] + parts[1] + parts[2] != 499500) wrong.fetch_add(1);
      }
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(spins_are_cut_short_by_competition_and_tried_again) {
  constexpr int kMost = 2000;
  SpinPolicy policy(kMost);
  EXPECT_EQ(policy.look(10.0, 400), kMost);     // what was before the first look says nothing
  EXPECT_EQ(policy.look(10.0625, 450), kMost);  // too early to judge
  EXPECT_EQ(policy.look(10.125, 401), kMost);   // one preemption in an eighth of a second is chance
  EXPECT(policy.look(10.25, 450) < kMost);
  EXPECT_EQ(policy.look(10.375, 500), kMost);  // a sleeping worker may be the reason: a trial
  // Competition stays: trials grow rare.
  int trials = 0;
  for (int i = 1; i <= 640; ++i) trials += policy.look(10.375 + 0.125 * i, 500 + 50 * i) == kMost;
  EXPECT(trials >= 10 && trials <= 40, trials);
  // It ends: long spins are back at once and stay.
  for (int i = 1; i <= 20; ++i) EXPECT(policy.look(90.375 + 0.125 * i, 32500) == kMost, i);
}

TEST(spins_of_a_pool_larger_than_the_machine_stay_none) {
  SpinPolicy policy(0);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(policy.look(i, 1000L * i), 0);
}
