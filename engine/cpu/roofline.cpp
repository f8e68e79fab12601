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
    CHECK(total < kUnit * context.pool().threads() ||
          seen[static_cast<size_t>(thread) * 8] == 0x0101010101010101u);  // and the reads happen
  return best;
}

double measurePeak(Context& context, Storage storage, ActivationMode mode, int bits) {
  const KernelTable& k = context.impl().kernels;
  const bool isPacked = storage == Storage::packed;
  auto* peak = k.peakFloat;
  double perAdd = 2;  // useful operations per multiply-add
  if (isPacked && mode == ActivationMode::int8) {
    peak = k.peakInt8;
  } else if (k.peakBf16 && mode == ActivationMode::bf16 && (isPacked || storage == Storage::bf16)) {
    peak = k.peakBf16;
  } else if (k.peakBf16 && isPacked && mode == ActivationMode::f16 && bits < 8) {
    peak = k.peakBf16;  // every x is two terms
    perAdd = 1;
  }
  std::vector<int64_t> done(static_cast<size_t>(context.pool().threads()) * 8);
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    context.pool().run([&](int thread, int) {
      float keep = 1;
      done[static_cast<size_t>(thread) * 8] = peak(20000, &keep) + (keep == 12345.0f ? 1 : 0);
    });
    const double s = secondsSince(start);
    int64_t total = 0;
    for (size_t i = 0; i < done.size(); i += 8) total += done[i];
    best = std::max(best, perAdd * static_cast<double>(total) / s * 1e-9);
  }
  return best;
}

}  // namespace winnow::cpu
