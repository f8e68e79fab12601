// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/second_moments.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "engine/cpu/isa.h"

namespace winnow {

SecondMoments::SecondMoments(Ledger& ledger, int cols) : cols_(cols) {
  const int64_t n = tiles();
  sums_ = Buffer(ledger, MemoryTag::calibration, static_cast<size_t>(n * (n + 1) / 2 * kTile * kTile) * sizeof(float));
}

void SecondMoments::add(const float* x, int64_t stride, int tokens, ThreadPool& pool) {
  const int64_t n = tiles(), padded = n * kTile, steps = (tokens + kTile - 1) / kTile, length = steps * kTile;
  rows_.assign(static_cast<size_t>(length * padded), 0.0f);
  columns_.assign(static_cast<size_t>(padded * length), 0.0f);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < cols_; ++c) rows_[static_cast<size_t>(t * padded + c)] = columns_[static_cast<size_t>(c * length + t)] = x[t * stride + c];
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    std::array<double, kTile * kTile> sum;
    std::array<float, kTile * kTile> product;
    for (int64_t item; (item = next.fetch_add(1)) < n * n;) {
      const int64_t row = item / n, col = item % n;
      if (col < row) continue;
      float* stored = tile(static_cast<int>(row), static_cast<int>(col));
      std::copy_n(stored, sum.size(), sum.begin());
      for (int64_t step = 0; step < steps; ++step) {
        cpu::bestKernels().smallProduct(columns_.data() + row * kTile * length + step * kTile, length,
                                        rows_.data() + step * kTile * padded + col * kTile, padded, kTile, kTile, kTile, product.data(), kTile, false);
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(product[i]);
      }
      for (size_t i = 0; i < sum.size(); ++i) stored[i] = static_cast<float>(sum[i]);
    }
  });
  tokens_ += tokens;
}

SecondMoments SecondMoments::of(Ledger& ledger, std::span<const int> kept) const {
  SecondMoments out(ledger, static_cast<int>(kept.size()));
  out.tokens_ = tokens_;
  for (int row = 0; row < out.tiles(); ++row)
    for (int col = row; col < out.tiles(); ++col) {
      float* to = out.tile(row, col);
      for (int i = row * kTile; i < std::min((row + 1) * kTile, out.cols_); ++i)
        for (int j = col * kTile; j < std::min((col + 1) * kTile, out.cols_); ++j)
          to[i % kTile * kTile + j % kTile] = at(kept[static_cast<size_t>(i)], kept[static_cast<size_t>(j)]);
    }
  return out;
}

SecondMoments SecondMoments::centred(Ledger& ledger, std::span<const double> means) const {
  constexpr double kLeastVariance = 1e-6;  // of the second moment
  SecondMoments out(ledger, cols_);
  out.tokens_ = tokens_;
  const auto about = [&](int i, int j) { return static_cast<double>(at(i, j)) - static_cast<double>(tokens_) * means[static_cast<size_t>(i)] * means[static_cast<size_t>(j)]; };
  std::vector<bool> varies;
  for (int c = 0; c < cols_; ++c) varies.push_back(about(c, c) > kLeastVariance * static_cast<double>(at(c, c)));
  for (int row = 0; row < tiles(); ++row)
    for (int col = row; col < tiles(); ++col)
      for (int i = row * kTile; i < std::min((row + 1) * kTile, cols_); ++i)
        for (int j = col * kTile; j < std::min((col + 1) * kTile, cols_); ++j)
          if (varies[static_cast<size_t>(i)] && varies[static_cast<size_t>(j)]) out.tile(row, col)[i % kTile * kTile + j % kTile] = static_cast<float>(about(i, j));
  return out;
}

double SecondMoments::meanDiagonal() const {
  double sum = 0;
  int active = 0;
  for (int c = 0; c < cols_; ++c) {
    sum += static_cast<double>(at(c, c));
    active += at(c, c) > 0.0f;
  }
  return active > 0 ? sum / active : 1;
}

void SecondMoments::times(const double* x, double* out) const {
  const int n = tiles();
  std::vector<double> in(static_cast<size_t>(n * kTile)), sums(in.size());
  std::copy_n(x, cols_, in.begin());
  for (int row = 0; row < n; ++row)
    for (int col = row; col < n; ++col) {
      const float* stored = tile(row, col);
      const double *above = in.data() + row * kTile, *left = in.data() + col * kTile;
      double *down = sums.data() + col * kTile, *across = sums.data() + row * kTile;
      for (int i = 0; i < kTile; ++i, stored += kTile) {
        std::array<double, 8> part{};
        for (int j = 0; j < kTile; ++j) part[static_cast<size_t>(j % 8)] += static_cast<double>(stored[j]) * left[j];
        for (const double each : part) across[i] += each;
        if (col > row)
          for (int j = 0; j < kTile; ++j) down[j] += static_cast<double>(stored[j]) * above[i];
      }
    }
  std::copy_n(sums.begin(), cols_, out);
}

}  // namespace winnow
