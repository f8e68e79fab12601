// SPDX-License-Identifier: GPL-3.0-or-later
// What the ops of one pass of the CPU backend see. Included by its own files alone.
#pragma once
#include <algorithm>

#include "engine/cpu/backend.h"
#include "engine/cpu/errors.h"
#include "engine/sparsify/step.h"
#include "engine/weights/calibration.h"

namespace winnow::cpu {

struct CpuBackend::Step {
  const ForwardInput& in;
  int n;  // rows
  const LayerWeights& layer(const Op& op) const { return in.weights.layers[static_cast<size_t>(op.layer)]; }
  int width;  // of the residual stream
  std::span<const SparseStep* const> sparse;  // of each row, which then is the one of its sequence; empty: all are computed whole
  bool anySparse() const {
    return std::ranges::any_of(sparse, [](const SparseStep* each) { return each != nullptr; });
  }
  const SparseLayer* sparseLayer(int row, int layer) const {
    const SparseStep* step = sparse[static_cast<size_t>(row)];
    return step ? &step->layers[static_cast<size_t>(layer)] : nullptr;
  }
  SparseUse& use(int row) const { return *sparse[static_cast<size_t>(row)]->use; }
  static bool choosesNeurons(const SparseLayer* layer) { return layer && (layer->chosen || layer->gate >= 0); }
  const ChannelMajorLayer& channels(int layer) const {
    static const ChannelMajorLayer none;
    return in.weights.sparse ? in.weights.sparse->layers[static_cast<size_t>(layer)] : none;
  }
  void tap(const Op& op, LinearInput input, const float* x, int cols) const {
    if (in.tap) in.tap->take(op.layer, input, x, cols, n, cols);
  }
  void tapStream(int point, const float* x, int cols) const {
    if (in.tap) in.tap->takeStream(point, x, cols, n);
  }
};

// A matrix of a block, and where what it makes goes.
struct CpuBackend::Linear {
  const Matrix* w;
  const ErrorFactors* error;
  const ChannelMajor* channels;  // null where there are none, or nothing is skipped
  float* y;                  // [tokens, rows]
  const float* bias;
  bool accumulate = false;
};

}  // namespace winnow::cpu
