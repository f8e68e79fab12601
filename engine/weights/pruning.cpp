// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/pruning.h"

#include "engine/core/check.h"

namespace winnow {
namespace {

const PruneMethod& methodOf(const Recipe& recipe) {
  const PruneMethod* method = findPruneMethod(recipe.prune);
  CHECK(method, recipe.prune);
  return *method;
}

}  // namespace

TensorPruning::TensorPruning(const MasterTensor& tensor, const Recipe& recipe, const MethodInput& statistics, ThreadPool& pool)
    : method_(methodOf(recipe)), level_{recipe.pruneRatio, parsePattern(recipe.prunePattern)} {
  input_.rows = static_cast<int>(tensor.rows);
  input_.cols = static_cast<int>(tensor.cols);
  input_.scope = recipe.pruneScope == "matrix" ? PruneScope::matrix : PruneScope::row;
  input_.statistics = statistics;
  input_.decode = [&tensor](int row, int count, float* out) { Model::decodeRows(tensor, row, count, out); };
  input_.pool = &pool;
}

}  // namespace winnow
