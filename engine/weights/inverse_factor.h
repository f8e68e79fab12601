// SPDX-License-Identifier: GPL-3.0-or-later
// The upper factor U of the inverse of the damped second moments of a layer's inputs, H^-1 = U^T U: what GPTQ and SparseGPT read row by row.
// H = 2/tokens X^T X + damping * mean(diag) I; an input that was never active has the mean on its diagonal.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/weights/second_moments.h"

namespace winnow {

struct FactorOptions {
  double damping = 0.01;  // share of the mean of the diagonal
  bool ordered = false;   // columns by falling diagonal instead of as they come
  bool operator==(const FactorOptions&) const = default;
};

class InverseFactor {
 public:
  enum class Outcome : uint8_t { done, cancelled, notPositive };

  // Posts to the ledger as calibration; in double, threaded, O(cols^3). Where H is not positive definite the damping is raised tenfold, up to
  // kMostDamping. Throws std::bad_alloc. The result does not depend on threads.
  Outcome make(Ledger& ledger, const SecondMoments& moments, const FactorOptions& options, ThreadPool& pool, const Progress& progress);

  int cols() const { return cols_; }
  const float* row(int i) const { return upper_.as<float>() + static_cast<int64_t>(i) * cols_; }  // [cols], zero before column i
  double damping() const { return damping_; }                                                      // that was used
  const std::vector<int>& order() const { return order_; }                                        // [cols] position -> column; empty: the same
  const std::vector<int>& dead() const { return dead_; }                                          // columns that were never active, ascending

  static constexpr double kMostDamping = 10;

 private:
  Buffer upper_;  // f32 [cols, cols]
  int cols_ = 0;
  double damping_ = 0;
  std::vector<int> order_, dead_;
};

// Building blocks, in place on a row-major square of doubles; n is a multiple of 64. They return early, with false, when stopped.
// a = R^T R: R takes the upper triangle, which alone is read. `positive` is false, and a spoilt, when there is none.
bool choleskyUpper(double* a, int64_t n, ThreadPool& pool, const Progress& progress, bool& positive);
// R becomes its inverse; what lies below the diagonal is not read and has no meaning afterwards.
bool invertUpper(double* a, int64_t n, ThreadPool& pool, const Progress& progress);

}  // namespace winnow
