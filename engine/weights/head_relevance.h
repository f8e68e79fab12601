// SPDX-License-Identifier: GPL-3.0-or-later
// How much of the logits of a text's next tokens passes through each attention head, by layer-wise relevance propagation: a pass of the dense model,
// and one back from its end (DenseBlock::relevance). pruning_sharing_attribution.md, D7.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/progress.h"
#include "engine/weights/calibration.h"
#include "engine/weights/dense_block.h"

namespace winnow {

// As a tap on passes of the dense model over windows of `ids` it keeps the residual stream of a window, [2 layers + 1, window, hidden] f32, and
// goes back through the blocks when that is whole. The sum over the tokens of a window of the logit of the token that comes next is explained.
class HeadRelevance final : public LinearInputTap {
 public:
  HeadRelevance(const Model& model, std::span<const int32_t> ids, int window, ThreadPool& pool, const Progress& progress);
  void take(int, LinearInput, const float*, int64_t, int, int) override {}
  void takeStream(int point, const float* x, int cols, int tokens) override;
  void finish() { stream_.clear(); }  // nothing more comes

  std::span<const double> of(int layer) const;  // [heads], summed over the text
  bool sound() const;                           // none is NaN or infinite
  // Of all windows: the logits, what of them each point of the stream has (as ResidualCosines counts them), [2 layers + 1], and what biases and
  // softmaxes took between it and the logits. The two add up to the logits.
  double explained() const { return explained_; }
  std::span<const double> atPoints() const { return atPoints_; }
  std::span<const double> takenBehind() const { return takenBehind_; }

 private:
  struct Norm {  // of rows of the stream
    std::vector<float> weight, bias;
    PaddedRows apply(const ModelConfig& config, const PaddedRows& x) const;
    PaddedRows back(const ModelConfig& config, const PaddedRows& x, const PaddedRows& dy, double* taken) const;
  };
  Norm normOf(TensorRole weight, TensorRole bias, int layer) const;
  PaddedRows explainLogits(double* taken);  // by the end of the stream
  void goBack();

  const Model& model_;
  const std::span<const int32_t> ids_;
  const int window_;
  ThreadPool& pool_;
  const Progress& progress_;
  std::vector<PaddedRows> stream_;  // [2 layers + 1] of the window at hand
  size_t begin_ = 0;                // its first token
  std::vector<double> heads_;       // [layers, heads]
  std::vector<double> atPoints_, takenBehind_;
  double explained_ = 0;
};

}  // namespace winnow
