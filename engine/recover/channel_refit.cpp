// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/recover/channel_refit.h"

#include <algorithm>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"

namespace winnow {

ChannelRefit::ChannelRefit(const SecondMoments& whole, std::span<const int> kept, const SecondMoments& left, const InverseFactor& factor, ThreadPool& pool)
    : cols_(static_cast<int>(kept.size())), inverse_(DenseSquare::ofInverse(factor, left, &pool)) {
  CHECK(left.cols() == cols_ && factor.cols() == cols_, left.cols(), factor.cols(), cols_);
  for (int c = 0; c < whole.cols(); ++c)
    if (!std::ranges::binary_search(kept, c)) gone_.push_back(c);
  const double mean = left.meanDiagonal();
  const auto stride = static_cast<size_t>(inverse_.stride());
  cross_.resize(gone_.size() * stride);
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(static_cast<int64_t>(gone_.size()), 1, thread, threads);
    for (auto p = static_cast<size_t>(range.begin); p < static_cast<size_t>(range.end); ++p)
      for (size_t k = 0; k < kept.size(); ++k) cross_[p * stride + k] = static_cast<float>(static_cast<double>(whole.at(gone_[p], kept[k])) / mean);
  });
}

void ChannelRefit::apply(const float* whole, float* rows, int count) const {
  if (gone_.empty()) return;
  const auto stride = static_cast<size_t>(inverse_.stride()), gone = gone_.size(), inputs = gone + static_cast<size_t>(cols_);
  std::vector<float> lost(static_cast<size_t>(count) * gone), right(static_cast<size_t>(count) * stride), added(right.size());
  for (size_t r = 0; r < static_cast<size_t>(count); ++r)
    for (size_t p = 0; p < gone; ++p) lost[r * gone + p] = whole[r * inputs + static_cast<size_t>(gone_[p])];
  cpu::bestKernels().smallProduct(lost.data(), static_cast<int64_t>(gone), cross_.data(), static_cast<int64_t>(stride), count, static_cast<int>(gone), static_cast<int>(stride),
                                  right.data(), static_cast<int64_t>(stride), false);
  inverse_.times(right.data(), count, added.data());
  for (size_t r = 0; r < static_cast<size_t>(count); ++r)
    for (size_t c = 0; c < static_cast<size_t>(cols_); ++c) rows[r * static_cast<size_t>(cols_) + c] += added[r * stride + c];
}

}  // namespace winnow
