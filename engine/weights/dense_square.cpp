// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/dense_square.h"

#include <algorithm>
#include <atomic>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"

namespace winnow {

DenseSquare DenseSquare::ofMoments(const SecondMoments& moments) {
  DenseSquare out(moments.cols());
  const double mean = moments.meanDiagonal();
  for (int i = 0; i < out.cols_; ++i)
    for (int j = 0; j < out.cols_; ++j) out.row(i)[j] = static_cast<float>(static_cast<double>(moments.at(i, j)) / mean);
  return out;
}

DenseSquare DenseSquare::ofInverse(const InverseFactor& factor, const SecondMoments& moments, ThreadPool* pool) {
  constexpr int kRows = 16;
  CHECK(factor.cols() == moments.cols() && factor.order().empty(), factor.cols(), moments.cols());
  DenseSquare out(factor.cols()), upper(factor.cols());
  const int cols = out.cols_;
  for (int i = 0; i < cols; ++i) std::copy_n(factor.row(i), cols, upper.row(i));
  const auto unit = static_cast<float>(2 * moments.meanDiagonal() / static_cast<double>(moments.tokens()));  // factors are of moments times 2 / tokens
  std::atomic<int> next{0};
  const auto work = [&](int, int) {
    std::vector<float> left(static_cast<size_t>(kRows) * static_cast<size_t>(cols));
    for (int first; (first = next.fetch_add(kRows)) < cols;) {
      const int count = std::min(kRows, cols - first), terms = first + count;
      for (int i = 0; i < count; ++i)
        for (int k = 0; k < terms; ++k) left[static_cast<size_t>(i * cols + k)] = unit * upper.row(k)[first + i];
      cpu::bestKernels().smallProduct(left.data(), cols, upper.row(0), out.stride_, count, terms, out.stride_, out.row(first), out.stride_, false);
    }
  };
  if (pool)
    pool->run(work);
  else
    work(0, 1);
  return out;
}

void DenseSquare::times(const float* rows, int count, float* out) const {
  cpu::bestKernels().smallProduct(rows, stride_, values_.data(), stride_, count, cols_, stride_, out, stride_, false);
}

}  // namespace winnow
