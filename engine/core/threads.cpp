// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/core/threads.h"

#include "engine/core/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace winnow {
namespace {
// About 50 us of spinning between ops while generating, then the futex: a spin hop costs 220 ns, a futex hop 701 ns.
constexpr int kSpins = 2000;
inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}
}  // namespace

ThreadPool::ThreadPool(int threads) {
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

void ThreadPool::runErased(Erased job, void* context) {
  const int n = threads();
  if (n == 1) return job(context, 0, 1);
  job_ = job;
  context_ = context;
  pending_.store(n - 1, std::memory_order_relaxed);
  round_.fetch_add(1);  // sequentially consistent with sleepers_: either we see the sleeper or it sees the round
  if (sleepers_.load() > 0) {
    { std::scoped_lock lock(mutex_); }
    wake_.notify_all();
  }
  job(context, 0, n);
  for (int spins = 0; pending_.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < kSpins)
      pause();
    else
      std::this_thread::yield();
  }
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int spins = 0; spins < kSpins && round_.load(std::memory_order_acquire) == seen && !stop_.load(std::memory_order_relaxed); ++spins)
      pause();
    if (round_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return round_.load() != seen || stop_.load(); });
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen = round_.load(std::memory_order_acquire);
    job_(context_, thread, threads());
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace winnow
