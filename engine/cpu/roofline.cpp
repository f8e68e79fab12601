// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <chrono>
#include <vector>

#include "engine/core/check.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {
double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace

double measureReadBandwidth(Context& context, size_t bytes) {
  constexpr int64_t kUnit = 1 << 16;
  Ledger ledger;
  const int64_t total = static_cast<int64_t>((bytes + kUnit - 1) / kUnit * kUnit);
  Buffer buffer(ledger, MemoryTag::activations, static_cast<size_t>(total));
  uint8_t* data = buffer.as<uint8_t>();
  const KernelTable& k = context.impl().kernels;
  std::vector<uint64_t> seen(static_cast<size_t>(context.pool().threads()) * 8);
  double best = 0;
  for (int round = 0; round < 5; ++round) {  // the first writes: pages must exist, and not be the shared page of zeros
    const auto start = std::chrono::steady_clock::now();
    context.pool().run([&](int thread, int threads) {
      const auto range = ThreadPool::split(total, kUnit, thread, threads);
      if (round == 0) std::fill(data + range.begin, data + range.end, uint8_t{1});
      seen[static_cast<size_t>(thread) * 8] = k.readStream(data + range.begin, range.end - range.begin);
    });
    if (round > 0) best = std::max(best, static_cast<double>(total) / secondsSince(start) * 1e-9);
  }
  for (int thread = 0; thread < context.pool().threads(); ++thread)
    CHECK(total < kUnit * context.pool().threads() || seen[static_cast<size_t>(thread) * 8] == 0x0101010101010101u);  // and the reads happen
  return best;
}

double measurePeak(Context& context, Storage storage, ActivationMode mode, int bits) {
  constexpr int kRows = 64, kCols = 512, kTokens = 24;  // 128 KiB of f32 and less: the L2 cache
  Ledger ledger;
  const WeightFormat format{storage, static_cast<uint8_t>(bits), static_cast<uint16_t>(storage == Storage::packed ? 32 : 0), true};
  const Matrix w = Matrix::allocate(ledger, format, kRows * context.pool().threads(), kCols);
  std::vector<float> x(kTokens * kCols, 0.5f), y(static_cast<size_t>(kTokens * w.rows));
  const MatmulTarget target{&w, y.data(), w.rows, nullptr, false};
  double best = 0;
  for (int round = 0; round < 40; ++round) {
    constexpr int kRepeats = 8;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRepeats; ++i) matmul(context, {&target, 1}, x.data(), kCols, kTokens, mode);
    best = std::max(best, 2.0 * kRepeats * w.rows * kCols * kTokens / secondsSince(start) * 1e-9);
  }
  return best;
}

}  // namespace winnow::cpu
