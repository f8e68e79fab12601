// SPDX-License-Identifier: GPL-3.0-or-later
// A tensor of a block with the channels alone that stay: a master of its own, from which pruning and quantization go on as from any other.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/weights/kept_channels.h"

namespace winnow {

bool narrowable(TensorRole role);        // matrices of blocks, and the biases of those that lose rows
bool narrowsRows(TensorRole role);       // all matrices but o and down; those and biases lose columns
const Channels& keptOf(const KeptOfLayer& layer, TensorRole role);  // of a narrowable one
MasterTensor narrowedShape(MasterTensor whole, int channels);  // its extents alone: nothing to decode

class NarrowedTensor {
 public:
  // Rows keep the type of the file unless they are scaled, columns become f32. Throws std::bad_alloc.
  NarrowedTensor(const MasterTensor& whole, std::span<const int> kept, ThreadPool& pool, float scale = 1);
  NarrowedTensor(const NarrowedTensor&) = delete;
  NarrowedTensor& operator=(const NarrowedTensor&) = delete;
  const MasterTensor& tensor() const { return tensor_; }
  std::span<float> values() { return values_; }  // [rows, cols] where they are f32 of its own; else empty

 private:
  void gatherStoredRows(const MasterTensor& whole, std::span<const int> kept);
  void gather(const MasterTensor& whole, std::span<const int> kept, ThreadPool& pool);

  MasterTensor tensor_;
  std::vector<std::byte> stored_;
  std::vector<float> values_;
};

}  // namespace winnow
