// SPDX-License-Identifier: GPL-3.0-or-later
// A tensor that is a sum of those of several layers, in f32: a master of its own, from which pruning and quantization go on as from any other.
#pragma once
#include <span>

#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/prune/layer_drop.h"

namespace winnow {

// A master of its own: these values [rows, cols] in the place of a tensor of the model.
MasterTensor masterOf(const MasterTensor& like, const float* values);

class SummedTensor {
 public:
  // `like` is the model's tensor in whose place the sum stands. Throws std::bad_alloc.
  SummedTensor(const Model& model, const MasterTensor& like, std::span<const LayerShare> sum, ThreadPool& pool);
  const MasterTensor& tensor() const { return tensor_; }

 private:
  MasterTensor tensor_;
  std::vector<float> values_;  // [rows, cols]
};

}  // namespace winnow
