// SPDX-License-Identifier: GPL-3.0-or-later
// Small random models with heads as a device computes them, and texts that are fed to them in several batches.
#pragma once
#include "engine/run/engine.h"
#include "tests/support/random_model.h"

namespace winnow::test {

inline SessionOptions longText(int context = 512, int batch = 50) {
  SessionOptions options;
  options.context = context;
  options.maxBatch = batch;
  return options;
}

// Of a family that has a window, one of `window` tokens.
inline std::shared_ptr<const Model> modelOfHeads(const char* family, int headDim, int heads, int kvHeads, int layers, int window = 0) {
  ModelConfig config = familyConfig(family);
  config.layers = layers;
  config.hidden = 64;
  config.heads = heads;
  config.kvHeads = kvHeads;
  config.headDim = config.rope.dims = headDim;
  if (config.slidingWindow > 0) config.slidingWindow = window;
  config.ffn = 96;
  config.vocab = 128;
  return randomModel(config);
}

}  // namespace winnow::test
