// SPDX-License-Identifier: GPL-3.0-or-later
// Statistics of the inputs of linear layers over a calibration text, in one pass of the dense model
// (pruning_sharing_attribution.md, section 0). Shared by all methods that need them, kept by the engine.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/weights/residuals.h"
#include "engine/weights/second_moments.h"

namespace winnow {

// The four places where linear layers read; q k v share one input, gate and up another.
enum class LinearInput : uint8_t { attention, output, ffn, down, count };
LinearInput linearInputOf(TensorRole role);  // CHECKs that the role is a linear layer of a block
std::string_view linearInputName(LinearInput input);  // "attention", "output", "ffn", "down"

// Receives the inputs of linear layers during a forward pass: x [tokens, cols] of a layer. Absent means free.
class LinearInputTap {
 public:
  virtual ~LinearInputTap() = default;
  virtual void take(int layer, LinearInput input, const float* x /* [tokens, stride] */, int64_t stride, int tokens, int cols) = 0;
  // The residual stream at the points of ResidualCosines, x [tokens, cols].
  virtual void takeStream(int /*point*/, const float* /*x*/, int /*cols*/, int /*tokens*/) {}
};

class Calibration final : public LinearInputTap {
 public:
  // With a pool, the second moments are summed as well; it must live while inputs are taken.
  Calibration(const ModelConfig& model, Ledger& ledger, ThreadPool* moments = nullptr);
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;
  // ||X_j||_2 of each input channel, [cols]. f32 of a double sum.
  std::vector<float> columnNorms(int layer, LinearInput input) const;
  std::vector<float> meanMagnitudes(int layer, LinearInput input) const;  // mean |x_j|, [cols]
  std::vector<float> largestMagnitudes(int layer, LinearInput input) const;  // max |x_j|, [cols]
  std::vector<float> windowMagnitudes(int layer, LinearInput input) const;   // sqrt(sum over the windows of (mean |x_j|)^2), [cols]
  std::vector<double> means(int layer, LinearInput input) const;  // mean x_j, [cols]
  bool hasMoments() const { return !moments_.empty(); }
  const SecondMoments& moments(int layer, LinearInput input) const;  // CHECKs hasMoments()
  int64_t tokens() const { return tokens_; }
  Ledger& ledger() const { return ledger_; }
  // That no input was NaN or infinite; the error names the first place.
  Status sound() const;
  void takeStream(int point, const float* x, int cols, int tokens) override { stream_.take(point, x, cols, tokens); }
  const ResidualCosines& stream() const { return stream_; }
  void finish() { stream_.finish(); }  // nothing more comes

 private:
  static constexpr size_t kSums = 5;
  using PerInput = std::array<Buffer, static_cast<size_t>(LinearInput::count)>;  // double [5, cols]: sum of squares, of magnitudes, the largest of those, sum of windowMagnitudes, of values
  const Buffer& sumsOf(int layer, LinearInput input) const { return sums_[static_cast<size_t>(layer)][static_cast<size_t>(input)]; }
  static size_t colsOf(const Buffer& sums) { return sums.bytes() / sizeof(double) / kSums; }
  Ledger& ledger_;
  ThreadPool* pool_;
  std::vector<PerInput> sums_;  // [layers]
  std::vector<std::array<SecondMoments, static_cast<size_t>(LinearInput::count)>> moments_;  // [layers], empty without them
  ResidualCosines stream_;
  int64_t tokens_ = 0;
};

}  // namespace winnow
