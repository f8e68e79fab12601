// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/pruning.h"

#include "engine/core/check.h"

namespace winnow {
namespace {

const PruneMethod& methodNamed(const std::string& name) {
  const PruneMethod* method = findPruneMethod(name);
  CHECK(method, name);
  return *method;
}

}  // namespace

TensorPruning::TensorPruning(const MasterTensor& tensor, const Recipe& recipe, const MethodInputs& inputs, ThreadPool& pool)
    : method_(methodNamed(recipe.prune)), level_{recipe.pruneRatio, parsePattern(recipe.prunePattern)}, recovery_(findRecoveryMethod(recipe.recovery)) {
  CHECK(recipe.recovery.empty() || recovery_, recipe.recovery);
  input_.rows = static_cast<int>(tensor.rows);
  input_.cols = static_cast<int>(tensor.cols);
  input_.scope = recipe.pruneScope == "matrix" ? PruneScope::matrix : PruneScope::row;
  input_.statistics = inputs.prune;
  input_.decode = [&tensor, scaling = inputs.scaling](int row, int count, float* out) { decodeScaled(tensor, row, count, scaling, out); };
  input_.pool = &pool;
  if (!recipe.pruneInitial.empty()) input_.initial = &methodNamed(recipe.pruneInitial);
  input_.swapShare = recipe.swapShare;
  recoveryInput_ = {input_.cols, inputs.recovery, recipe.damping, &pool};
}

std::unique_ptr<Pruner> TensorPruning::pruner(const PruneScores& scores) const {
  auto pruner = scores.at(level_, input_);
  return recovery_ && recovery_->prepare ? recovered(std::move(pruner), recovery_->prepare(recoveryInput_), input_.cols) : std::move(pruner);
}

}  // namespace winnow
