// SPDX-License-Identifier: GPL-3.0-or-later
// One attention or feed-forward of the dense model, forward and back, over one window of text whose first token is at position 0: the plain
// formulas in f32, for statistics and not for generating (pruning_sharing_attribution.md, C4).
#pragma once
#include <cstdint>
#include <map>
#include <vector>

#include "engine/core/threads.h"
#include "engine/model/model.h"

namespace winnow {

// f32 rows whose stride is a multiple of 16; what fills them up is zero.
struct PaddedRows {
  int rows = 0, cols = 0;
  std::vector<float> values;  // [rows, stride()]
  PaddedRows() = default;
  PaddedRows(int r, int c) : rows(r), cols(c), values(static_cast<size_t>(r) * static_cast<size_t>(stride())) {}
  int stride() const { return (cols + 15) / 16 * 16; }
  float* row(int r) { return values.data() + int64_t{r} * stride(); }
  const float* row(int r) const { return values.data() + int64_t{r} * stride(); }
};

enum class BlockPart : uint8_t { attention, ffn };

class DenseBlock {
 public:
  DenseBlock(const Model& model, int layer, BlockPart part, ThreadPool& pool);
  PaddedRows forward(const PaddedRows& x);  // [tokens, hidden] after the norm -> what is added to the residual stream
  // Of the last forward: the gradients, by each matrix, of a sum whose gradient by the output is dy [tokens, hidden].
  std::map<TensorRole, PaddedRows> gradients(const PaddedRows& dy) const;

  // Of the last forward, with rules of layer-wise relevance propagation in the place of some derivatives (AttnLRP, Achtibat et al., ICML 2024
  // (arXiv 2402.05602), as gradients; pruning_sharing_attribution.md, D7): denominators of norms are constants, act(g) is g times a constant,
  // each factor of a product has half. dy is the modified gradient by the output, the result that by x. The relevance of an output, the sum of
  // y dy, is that of its input, up to what biases and softmaxes take: added to *taken. Of an attention the share of each head, the sum of z dz
  // over what o reads of it, is added to heads [heads].
  PaddedRows relevance(const PaddedRows& dy, double* taken, double* heads) const;

 private:
  void load(TensorRole role, TensorRole bias);
  void loadVector(TensorRole role);
  const std::vector<float>* vector(TensorRole role) const;  // null where the model has none
  PaddedRows times(const PaddedRows& a, const PaddedRows& b) const;
  PaddedRows linear(const PaddedRows& x, TensorRole role, TensorRole bias) const;
  void rotate(PaddedRows& x, int heads, float direction) const;
  void norm(PaddedRows& x, int heads, const std::vector<float>& weight) const;
  void normBack(PaddedRows& dx, int heads, const std::vector<float>& weight, const PaddedRows& before) const;
  PaddedRows probabilities(int head) const;
  PaddedRows attend() const;
  void attendBack(const PaddedRows& dz, PaddedRows& dq, PaddedRows& dk, PaddedRows& dv) const;
  PaddedRows attentionRelevance(const PaddedRows& dy, double* taken, double* heads) const;
  PaddedRows ffnRelevance(const PaddedRows& dy, double* taken) const;
  void headRelevance(int head, const PaddedRows& dz, PaddedRows& dq, PaddedRows& dk, PaddedRows& dv, double* taken) const;
  double takenBy(TensorRole bias, const PaddedRows& dy) const;
  void normRelevance(PaddedRows& dx, int heads, const std::vector<float>& weight, const PaddedRows& before) const;
  std::map<TensorRole, PaddedRows> attentionGradients(const PaddedRows& dy) const;
  std::map<TensorRole, PaddedRows> ffnGradients(const PaddedRows& dy) const;

  const Model& model_;
  const ModelConfig& config_;
  const int layer_;
  const BlockPart part_;
  ThreadPool& pool_;
  std::map<TensorRole, PaddedRows> weights_;
  std::map<TensorRole, std::vector<float>> vectors_;  // biases, and norms of queries and keys
  // Of the last forward. Queries and keys before and after their norm and rotation; inner_ is what the last matrix reads.
  PaddedRows x_, qBefore_, kBefore_, q_, k_, v_, gate_, up_, inner_;
};

}  // namespace winnow
