// SPDX-License-Identifier: GPL-3.0-or-later
// How much the output of an attention or a feed-forward of a pruned model, as a whole, depends on each of the dense weights: gradients of its
// reconstruction error (Su et al. 2024 (arXiv 2408.10631), section 3; pruning_sharing_attribution.md, C4).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "engine/core/memory.h"
#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/weights/calibration.h"
#include "engine/weights/dense_block.h"

namespace winnow {

struct LayerRange {
  int begin = 0, end = 0;
  bool has(int layer) const { return layer >= begin && layer < end; }
};

// As a tap on passes of the pruned model it sees what a block reads, x [tokens, hidden], and what it adds to the stream, y_s; the dense block
// makes y_d of the same x. Of E = mean (y_d - y_s)^2 the gradients by the dense weights are squared and averaged over the windows of the text.
class BlockGradients final : public LinearInputTap {
 public:
  // Posts 4 bytes for each weight of the layers' matrices; what it works with on the way is a block of floats besides.
  BlockGradients(const Model& model, LayerRange layers, Ledger& ledger, ThreadPool& pool, const Progress& progress);
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;
  void takeStream(int point, const float* x, int cols, int tokens) override;
  void finish();         // nothing more comes
  Status sound() const;  // that no gradient is NaN or infinite; the error names the first matrix

  LayerRange layers() const { return layers_; }
  // Mean of the squared gradients of a linear layer of a block, [rows, cols].
  std::span<const float> meanSquares(TensorRole role, int layer) const;
  static int64_t bytes(const Model& model, int layer);

 private:
  void add(int layer, BlockPart part, const PaddedRows& added);

  const Model& model_;
  const LayerRange layers_;
  ThreadPool& pool_;
  const Progress& progress_;
  std::map<std::pair<int, TensorRole>, Buffer> sums_;
  PaddedRows input_, before_;  // of the block that runs: what it reads, the stream before it
  int windows_ = 0;
};

// Hands out gradients layer after layer. Those of as many layers as fit 1 GiB are measured at a time, of one at least.
class GradientsByLayer {
 public:
  using Measure = std::function<Result<std::shared_ptr<const BlockGradients>>(LayerRange layers)>;
  GradientsByLayer(const Model& model, Measure measure, int64_t mostBytes = int64_t{1} << 30) : model_(model), measure_(std::move(measure)), mostBytes_(mostBytes) {}
  // [rows, cols] of a linear layer of a block, good until another layer is asked for.
  Result<std::span<const float>> of(const MasterTensor& tensor);

 private:
  const Model& model_;
  Measure measure_;
  int64_t mostBytes_;
  std::shared_ptr<const BlockGradients> held_;
};

}  // namespace winnow
