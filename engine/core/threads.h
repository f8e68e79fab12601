// SPDX-License-Identifier: GPL-3.0-or-later
// A fork-join pool of N-1 workers and the caller. Work is always split statically by thread index, so results do not
// depend on scheduling; kernels never split a sum across threads, so they do not depend on N either.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace winnow {

// How long threads may spin for each other, judged by how often the calling thread loses its processor. Cut short where other
// programs compete; but a worker that sleeps is often woken on the caller's processor and preempts it, which looks the same: so
// long spins are tried again, ever more rarely while they fail.
class SpinPolicy {
 public:
  explicit SpinPolicy(int most) : most_(most), spins_(most) {}
  // Spins from now on. seconds: a clock; preemptions: of the calling thread, a running count.
  int look(double seconds, long preemptions);

 private:
  const int most_;
  int spins_;
  double time_ = -1;
  long preemptions_ = 0;
  int pause_ = 1, waited_ = 0;  // looks between trials, looks since the last
};

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // >= 1; the calling thread is one of them
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls job(thread, threads) once on each thread and returns when all have returned. Not re-entrant; one caller at a time.
  // job must not throw. Allocates nothing.
  template <class Job>
  void run(Job&& job) {
    runErased([](void* context, int thread, int threads) { (*static_cast<std::remove_reference_t<Job>*>(context))(thread, threads); },
              const_cast<void*>(static_cast<const void*>(&job)));
  }

  // [begin, end) of n items for a thread, in multiples of `unit`.
  struct Range {
    int64_t begin, end;
  };
  static Range split(int64_t n, int64_t unit, int thread, int threads) {
    const int64_t units = (n + unit - 1) / unit;
    const int64_t begin = units * thread / threads * unit, end = units * (thread + 1) / threads * unit;
    return {begin < n ? begin : n, end < n ? end : n};
  }

 private:
  using Erased = void (*)(void*, int, int);
  void runErased(Erased job, void* context);
  void work(int thread);
  void lookForContention();

  const int mostSpins_;
  SpinPolicy policy_;  // the caller's
  std::atomic<int> spins_;
  Erased job_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint64_t> round_{0};
  alignas(64) std::atomic<int> pending_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false}, callerSleeps_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;  // last: they use all of the above
};

}  // namespace winnow
