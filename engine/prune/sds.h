// SPDX-License-Identifier: GPL-3.0-or-later
// The dense step between the two prunings of SDS (Li et al., COLING 2025; pruning_sharing_attribution.md, C5).
#pragma once
#include "engine/weights/dense_square.h"

namespace winnow {

// For each row of `sparse` [count, cols], pruned from the same row of `dense`, what lowers
//   J(w) = (w - dense) C (w - dense)^T + pruned |w where sparse is zero|^2 + kept |w - sparse elsewhere|^2
// by conjugate gradients from the sparse row on; C the moments, their mean diagonal one. Every step lowers J. `inverse` is of
// moments damped by about `kept`, on which how many steps it takes depends.
struct Redensify {
  const DenseSquare& moments;
  const DenseSquare& inverse;
  double pruned = 0.1, kept = 0.01;
  int steps = 12;
  void operator()(const float* dense, float* sparse, int count) const;  // count <= 16
};

}  // namespace winnow
