// SPDX-License-Identifier: GPL-3.0-or-later
// One tensor: master rows decoded, pruned, rounded, packed; 16-row tiles spread over a pool. The result does not depend on threads.
#pragma once
#include <atomic>
#include <cstdint>

#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/prune/method.h"
#include "engine/weights/method_input.h"
#include "engine/weights/matrix.h"
#include "engine/weights/recipe.h"

namespace winnow {

class ConvertProgress {
 public:
  ConvertProgress(const Progress& progress, int64_t values) : progress_(progress), total_(values) {}
  bool stopped() const { return progress_.stopped(); }
  const Progress& progress() const { return progress_; }
  void count(int64_t values) { done_.fetch_add(values, std::memory_order_relaxed); }  // any thread
  void report() const { progress_(total_ > 0 ? static_cast<double>(done_.load()) / static_cast<double>(total_) : 1.0, "preparing weights"); }
  void advance(int64_t values) {
    count(values);
    report();
  }

 private:
  const Progress& progress_;
  int64_t total_;
  std::atomic<int64_t> done_{0};
};

enum class Converted : uint8_t { done, cancelled, damaged };  // damaged: a value is NaN or infinite

// What the methods of a recipe look at.
struct MethodInputs {
  MethodInput prune, recovery, quantize;
  InputScaling scaling;
  std::vector<SuperWeight> super;  // of this matrix
  const SecondMoments* moments = nullptr;  // of its unscaled inputs, where a rank asks for them
  std::span<const double> means;           // of its inputs, scaled as columns are, where constants are added; else empty
  std::vector<double> gone;                // [rows] mean of what inputs that are no longer read gave the outputs; empty: all are
};

// Master rows as f32, [count, cols], scaled.
void decodeScaled(const MasterTensor& tensor, int64_t row, int64_t count, const InputScaling& scaling, float* out);

// The calling thread reports progress; between tiles threads yield. Super weights that are kept are rounded as the median of their group, so
// that the others get a grid of their own, and what they then lack is appended to `corrections`.
Converted convert(const MasterTensor& tensor, const Recipe& recipe, const Pruner* pruner /* null: dense */, const MethodInputs& inputs,
                  ThreadPool& pool, ConvertProgress& progress, Matrix& out, std::vector<WeightCorrection>* corrections = nullptr);

}  // namespace winnow
