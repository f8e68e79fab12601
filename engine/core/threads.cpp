// SPDX-License-Identifier: GPL-3.0-or-later
// Between calls a worker spins for about 50 us, then sleeps: a hop costs 0.2 us spinning and 0.7 us or more from sleep. Spinning
// is only good while every thread has a processor of its own. With more threads than processors it is left out, and where other
// programs compete (seen by the caller being preempted) it is cut short, or spinning threads would take the time of working ones.
#include "engine/core/threads.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "engine/core/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace winnow {
namespace {

constexpr int kSpins = 2000, kContendedSpins = 100;
constexpr uint64_t kRoundsPerLook = 64;
constexpr double kLookSeconds = 0.1;            // a shorter look would take one chance preemption for a trend
constexpr double kPreemptionsPerSecond = 100;  // an idle machine shows a few, a window being drawn sixty, a shared processor hundreds
constexpr int kLongestPause = 32;

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

int processors() {  // this process may use
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
}

double secondsNow() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

int SpinPolicy::look(double seconds, long preemptions) {
  if (time_ < 0 || seconds - time_ >= kLookSeconds) {
    const bool preempted = time_ >= 0 && static_cast<double>(preemptions - preemptions_) > kPreemptionsPerSecond * (seconds - time_);
    time_ = seconds;
    preemptions_ = preemptions;
    if (spins_ == most_ && preempted) {
      spins_ = std::min(kContendedSpins, most_);
      waited_ = 0;
    } else if (spins_ == most_) {
      pause_ = 1;
    } else if (!preempted || ++waited_ >= pause_) {
      spins_ = most_;
      pause_ = std::min(2 * pause_, kLongestPause);
    }
  }
  return spins_;
}

ThreadPool::ThreadPool(int threads) : mostSpins_(threads <= processors() ? kSpins : 0), policy_(mostSpins_), spins_(mostSpins_) {
  CHECK(threads >= 1, threads);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::scoped_lock lock(mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

// Every so many calls: how often was the calling thread made to wait for a processor since the last look?
void ThreadPool::lookForContention() {
  rusage usage;
  if (mostSpins_ == 0 || getrusage(RUSAGE_THREAD, &usage) != 0) return;
  spins_.store(policy_.look(secondsNow(), usage.ru_nivcsw), std::memory_order_relaxed);
}

void ThreadPool::runErased(Erased job, void* context) {
  const int n = threads();
  if (n == 1) return job(context, 0, 1);
  job_ = job;
  context_ = context;
  pending_.store(n - 1, std::memory_order_relaxed);
  const uint64_t round = round_.fetch_add(1);  // sequentially consistent with sleepers_: either we see the sleeper or it sees the round
  if (sleepers_.load() > 0) {
    { std::scoped_lock lock(mutex_); }
    wake_.notify_all();
  }
  job(context, 0, n);
  const int spins = spins_.load(std::memory_order_relaxed);
  for (int i = 0; i < spins && pending_.load(std::memory_order_acquire) > 0; ++i) pause();
  if (pending_.load(std::memory_order_acquire) > 0) {
    std::unique_lock lock(mutex_);
    callerSleeps_.store(true);  // sequentially consistent with pending_: either the last worker sees it or we see zero
    done_.wait(lock, [&] { return pending_.load() == 0; });
    callerSleeps_.store(false);
  }
  if (round % kRoundsPerLook == 0) lookForContention();
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    const int spins = spins_.load(std::memory_order_relaxed);
    for (int i = 0; i < spins && round_.load(std::memory_order_acquire) == seen && !stop_.load(std::memory_order_relaxed); ++i) pause();
    if (round_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return round_.load() != seen || stop_.load(); });
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen = round_.load(std::memory_order_acquire);
    job_(context_, thread, threads());
    if (pending_.fetch_sub(1) == 1 && callerSleeps_.load()) {
      { std::scoped_lock lock(mutex_); }
      done_.notify_one();
    }
  }
}

}  // namespace winnow
