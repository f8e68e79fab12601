// SPDX-License-Identifier: GPL-3.0-or-later
// A matrix whose inputs P go altogether and whose others K stay, fitted anew (pruning_sharing_attribution.md, J3): with C the second moments,
//   W_K + W_P C_PK (C_KK + damping mean(diag C_KK) I)^-1.
// One factorization serves all rows. It is least squares with a prior at the weights as they were, so the loss on the calibration text does not grow.
#pragma once
#include <span>
#include <vector>

#include "engine/weights/dense_square.h"

namespace winnow {

class ChannelRefit {
 public:
  // `factor` is of the moments `left`, those of the inputs `kept` out of `whole`.
  ChannelRefit(const SecondMoments& whole, std::span<const int> kept, const SecondMoments& left, const InverseFactor& factor, ThreadPool& pool);
  // rows [count, kept] become what `whole` [count, all inputs] asks of them. Thread-safe; the result does not depend on how rows are grouped.
  void apply(const float* whole, float* rows, int count) const;

 private:
  std::vector<int> gone_;
  int cols_;
  DenseSquare inverse_;
  std::vector<float> cross_;  // C_PK over the mean of the diagonal of C_KK, [gone, stride]
};

}  // namespace winnow
