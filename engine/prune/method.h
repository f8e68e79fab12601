// SPDX-License-Identifier: GPL-3.0-or-later
// A pruning method decides which weights of one matrix become zero. One method is one file and one line in registry.cpp.
// All linear layers of the blocks are pruned, never embeddings, head, norms (pruning_sharing_attribution.md, C).
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/weights/method_input.h"

namespace winnow {

struct PruneInput {
  int rows = 0, cols = 0;
  double ratio = 0;                    // share of weights that become zero, 0..1
  MethodInput statistics;              // what the method asked for
  // Master rows as f32: out [count, cols].
  std::function<void(int row, int count, float* out)> decode;
};

class Pruner {
 public:
  virtual ~Pruner() = default;
  // Zeroes what is to go in rows [firstRow, firstRow + count), given as decoded. Deterministic, thread-safe.
  virtual void apply(float* rows /* [count, cols] */, int firstRow, int count) const = 0;
};

struct PruneMethod {
  std::string name, title, paper;
  InputNeeds needs;
  std::unique_ptr<Pruner> (*prepare)(const PruneInput& input);
};

std::span<const PruneMethod> pruneMethods();
const PruneMethod* findPruneMethod(std::string_view name);

}  // namespace winnow
