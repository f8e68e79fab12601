// SPDX-License-Identifier: GPL-3.0-or-later
// Pruning as a recipe asks for it: what a method gets to see of a tensor.
#pragma once
#include <memory>

#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/prune/method.h"
#include "engine/recover/method.h"
#include "engine/weights/convert.h"
#include "engine/weights/recipe.h"

namespace winnow {

// One tensor with the scores its recipe prunes by: those that are known, or prepared now in the ledger.
class TensorPruning {
 public:
  TensorPruning(const MasterTensor& tensor, const Recipe& recipe, const MethodInputs& inputs, ThreadPool& pool);
  std::shared_ptr<const PruneScores> prepare(Ledger& ledger) const { return method_.prepare(input_, ledger); }
  std::unique_ptr<Pruner> pruner(const PruneScores& scores) const;  // with the recovery of the recipe

 private:
  const PruneMethod& method_;
  PruneLevel level_;
  PruneInput input_;
  const RecoveryMethod* recovery_;  // null: none
  RecoveryInput recoveryInput_;
};

}  // namespace winnow
