// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <chrono>
#include <vector>

#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {
double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace

double measureReadBandwidth(Context& context, size_t bytes) {
  Ledger ledger;
  const int64_t words = static_cast<int64_t>(bytes / 8);
  Buffer buffer(ledger, MemoryTag::activations, static_cast<size_t>(words) * 8);
  uint64_t* data = buffer.as<uint64_t>();
  std::vector<uint64_t> sums(static_cast<size_t>(context.pool().threads()) * 8);
  double best = 0;
  for (int round = 0; round < 4; ++round) {  // the first writes: pages must exist
    const auto start = std::chrono::steady_clock::now();
    context.pool().run([&](int thread, int threads) {
      const auto range = ThreadPool::split(words, 512, thread, threads);
      uint64_t sum = 0;
      for (int64_t i = range.begin; i < range.end; ++i) {
        if (round == 0) data[i] = static_cast<uint64_t>(i);
        sum += data[i];
      }
      sums[static_cast<size_t>(thread) * 8] = sum;
    });
    if (round > 0) best = std::max(best, static_cast<double>(words) * 8 / secondsSince(start) * 1e-9);
  }
  volatile uint64_t keep = sums[0];
  (void)keep;
  return best;
}

double measurePeak(Context& context, Storage storage, ActivationMode mode, int bits) {
  constexpr int kRows = 256, kCols = 1024, kTokens = 32;
  Ledger ledger;
  const WeightFormat format{storage, static_cast<uint8_t>(bits), static_cast<uint16_t>(storage == Storage::packed ? 32 : 0), true};
  const Matrix w = Matrix::allocate(ledger, format, kRows * context.pool().threads(), kCols);
  std::vector<float> x(kTokens * kCols, 0.5f), y(static_cast<size_t>(kTokens * w.rows));
  const MatmulTarget target{&w, y.data(), w.rows, nullptr, false};
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const auto start = std::chrono::steady_clock::now();
    matmul(context, {&target, 1}, x.data(), kCols, kTokens, mode);
    best = std::max(best, 2.0 * w.rows * kCols * kTokens / secondsSince(start) * 1e-9);
  }
  return best;
}

}  // namespace winnow::cpu
