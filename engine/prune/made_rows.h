// SPDX-License-Identifier: GPL-3.0-or-later
// For methods that make a matrix as a whole: rows in turn on all threads, and a pruner that hands out what was made.
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "engine/core/threads.h"
#include "engine/prune/method.h"

namespace winnow {

// Calls work(first row, count) for all rows, at most 16 at a time.
template <class Work>
void forRowsOf(const PruneInput& input, Work&& work) {
  constexpr int kUnit = 16;
  const auto share = [&](int thread, int threads) {
    const auto range = ThreadPool::split(input.rows, kUnit, thread, threads);
    for (int64_t first = range.begin; first < range.end; first += kUnit)
      work(static_cast<int>(first), static_cast<int>(std::min<int64_t>(kUnit, range.end - first)));
  };
  if (input.pool)
    input.pool->run(share);
  else
    share(0, 1);
}

class MadeRows final : public Pruner {
 public:
  MadeRows(std::vector<float> weights, int cols) : weights_(std::move(weights)), cols_(static_cast<size_t>(cols)) {}
  void apply(float* rows, int firstRow, int count) const override {
    std::copy_n(weights_.data() + static_cast<size_t>(firstRow) * cols_, static_cast<size_t>(count) * cols_, rows);
  }

 private:
  std::vector<float> weights_;  // [rows, cols]
  size_t cols_;
};

}  // namespace winnow
