// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/place.h"

#include <optional>

#include "engine/core/recycled_memory.h"
#include "engine/weights/constants.h"
#include "engine/weights/pruning.h"
#include "engine/weights/sparse_rows.h"

namespace winnow {

bool usableInPlace(const MasterTensor& t, const Recipe& recipe) {
  if (!recipe.method.empty() || !recipe.prune.empty() || !recipe.sum.empty() || !recipe.outputFit.empty() || recipe.kept || recipe.slice || recipe.folds || recipe.scaled() ||
      recipe.super != SuperWeights::asOthers || !recipe.constantsOf.empty() || !t.direct() || isBlockType(t.type))
    return false;
  const auto element = static_cast<size_t>(dtypeTraits(t.type).blockBytes);
  const bool sameType = (recipe.format.storage == Storage::f32) == (t.type == DType::f32);
  return sameType && t.storedRowBytes == element * static_cast<size_t>(t.cols) && reinterpret_cast<uintptr_t>(t.directRow(0)) % element == 0;
}

int64_t HostPlace::bytes(const MasterTensor& tensor, const Recipe& recipe) const {
  const auto rows = static_cast<int>(tensor.rows), cols = static_cast<int>(tensor.cols);
  return usableInPlace(tensor, recipe) ? 0 : static_cast<int64_t>(recipe.format.bytes(rows, cols)) + errorBytes(recipe, rows, cols) + biasBytes(recipe, rows);
}

std::shared_ptr<const ChannelMajor> HostPlace::makeChannels(const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) {
  auto made = std::make_shared<ChannelMajor>(ChannelMajor::allocate(ledger_, matrix, columns));
  return planning() || made->fill(matrix, pool, progress) ? made : nullptr;
}

Converted fitBeside(const WeightWork& work, const Matrix& stored, ErrorFactors& error, std::vector<float>& constants) {
  if (error)
    if (const Converted fitted = fitErrors(work.tensor, work.inputs, stored, work.pool, work.progress, error); fitted != Converted::done) return fitted;
  return work.recipe.addsConstants() ? fitConstants(work.tensor, work.inputs, stored, error, work.pool, work.progress, constants) : Converted::done;
}

Converted HostPlace::make(const WeightWork& work, WeightVersion& out) {
  const MasterTensor& tensor = work.tensor;
  const auto rows = static_cast<int>(tensor.rows), cols = static_cast<int>(tensor.cols);
  if (!usableInPlace(tensor, work.recipe)) {
    const bool leavesOut = work.recipe.format.sparse && !planning();
    WeightFormat format = work.recipe.format;
    if (leavesOut) format.sparse = false;
    Ledger moment;  // all of a matrix is there until its zeros go
    Matrix whole;
    Matrix& made = leavesOut ? whole : out.matrix;
    {
      std::optional<RecycledMemory::Taking> taking;
      if (format.storage != Storage::packed && !leavesOut) taking.emplace();  // the conversion writes every value
      made = Matrix::allocate(leavesOut ? moment : ledger_, format, rows, cols);
    }
    std::unique_ptr<Pruner> pruner;
    if (!work.recipe.prune.empty()) {
      const TensorPruning pruning(tensor, work.recipe, work.inputs, work.pool);
      out.scores = work.scores ? work.scores : pruning.prepare(ledger_);
      if (!planning()) pruner = pruning.pruner(*out.scores);
    }
    out.error = allocateFactors(ledger_, work.recipe, rows, cols);
    if (planning()) return Converted::done;
    const Converted converted = convert(tensor, work.recipe, pruner.get(), work.inputs, work.pool, work.progress, made, &out.corrections);
    if (leavesOut && converted == Converted::done) out.matrix = withoutZeros(ledger_, whole, work.pool);
    return converted == Converted::done ? fitBeside(work, out.matrix, out.error, out.constants) : converted;
  }
  out.matrix.format = work.recipe.format;
  out.matrix.rows = rows;
  out.matrix.cols = cols;
  out.matrix.data = tensor.directRow(0);
  out.mapped = MappedBytes(ledger_, static_cast<int64_t>(out.matrix.bytes()));
  work.progress.advance(tensor.rows * tensor.cols);
  return Converted::done;
}

}  // namespace winnow
