// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/store.h"

#include <algorithm>
#include <new>
#include <utility>

#include "engine/core/check.h"
#include "engine/core/device_failure.h"
#include "engine/recover/method.h"
#include "engine/weights/constants.h"
#include "engine/weights/head_folds.h"
#include "engine/weights/narrowing.h"
#include "engine/sparsify/step.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {
namespace {

double recoveryPenalty(const Recipe& recipe) {
  const RecoveryMethod* method = findRecoveryMethod(recipe.recovery);
  return method ? method->penalty : 0;
}

// By how much the damping of a factor had to be raised above what was asked for, as a damping; 0 when it was not.
double raised(const MethodInput& input, double asked, double penalty) {
  return input.factor && input.factor->damping() > asked + penalty ? input.factor->damping() - penalty : 0;
}

// What the methods of a recipe get to see.
Result<MethodInputs> inputsOf(const MasterTensor& tensor, const Recipe& recipe, InputPreparer& preparer, GradientsByLayer& gradients,
                              const std::vector<SuperWeight>& super) {
  MethodInputs out;
  if (recipe.super != SuperWeights::asOthers)
    for (size_t i = 0; i < super.size() && i < static_cast<size_t>(recipe.superCount); ++i)
      if (super[i].layer == tensor.layer) out.super.push_back(super[i]);
  if (recipe.kept) narrowColumns(out.super, recipe.kept->list);
  if (recipe.calibration.empty()) return out;
  if (recipe.divided) {
    const auto divisors = preparer.scales(tensor.layer, recipe.divided.input, recipe.divided.choice);
    if (!divisors) return divisors.error();
    out.scaling.divisors = *divisors;
  }
  if (recipe.multiplied) {
    const auto columns = preparer.scales(tensor.layer, recipe.multiplied.input, recipe.multiplied.choice);
    if (!columns) return columns.error();
    out.scaling.columns = *columns;
  }
  if (recipe.errorRank > 0) out.moments = &preparer.moments(tensor.layer, linearInputOf(tensor.role));
  if (!recipe.pruneNeeds.any() && !recipe.recoveryNeeds.any() && !recipe.methodNeeds.any() && !recipe.addsConstants()) return out;
  const LinearInput input = linearInputOf(tensor.role);
  if (recipe.addsConstants()) {
    const auto measured = preparer.prepare(tensor.layer, input, {.means = true}, {}, out.scaling.columns);
    if (!measured) return measured.error();
    out.means = measured->means;
  }
  auto prune = preparer.prepare(tensor.layer, input, recipe.pruneNeeds, {recipe.damping, false}, out.scaling.columns);
  if (!prune) return prune.error();
  auto recovery = preparer.prepare(tensor.layer, input, recipe.recoveryNeeds, {recipe.damping + recoveryPenalty(recipe), false}, out.scaling.columns);
  if (!recovery) return recovery.error();
  auto quantize = preparer.prepare(tensor.layer, input, recipe.methodNeeds, {recipe.damping, recipe.options.ordered}, out.scaling.columns);
  if (!quantize) return quantize.error();
  out.prune = *prune;
  if (recipe.pruneNeeds.gradients) {
    const auto squares = gradients.of(tensor);
    if (!squares) return squares.error();
    out.prune.gradientSquares = *squares;
  }
  out.recovery = *recovery;
  out.quantize = *quantize;
  out.quantize.options = recipe.options;
  return out;
}

Error cancelled() { return {ErrorCode::cancelled, "Preparing the weights was cancelled.", ""}; }

}  // namespace

MemoryByTag WeightSet::memory(const Plan& plan) const {
  MemoryByTag out{};
  for (size_t i = 0; i < versions.size(); ++i) {
    const MasterTensor& tensor = model->tensors()[i];
    const Matrix& matrix = versions[i]->matrix;
    const bool mapped = versions[i]->mapped.bytes() > 0;
    if (mapped && isMatrix(tensor.role) && plan.skips(tensor.role, tensor.layer)) continue;
    out[static_cast<size_t>(mapped ? MemoryTag::weightsMapped : MemoryTag::weights)] += static_cast<int64_t>(matrix.bytes());
    out[static_cast<size_t>(MemoryTag::weights)] += versions[i]->error.bytes();
    if (versions[i]->bias) out[static_cast<size_t>(MemoryTag::weights)] += static_cast<int64_t>(versions[i]->bias->matrix.bytes());
  }
  for (const auto& version : added) out[static_cast<size_t>(MemoryTag::weights)] += static_cast<int64_t>(version->matrix.bytes());
  if (sparse) out[static_cast<size_t>(MemoryTag::weights)] += sparse->bytes;
  return out;
}

std::shared_ptr<const WeightVersion> WeightStore::find(size_t tensor, const std::string& recipe) {
  std::scoped_lock lock(mutex_);
  const auto found = versions_.find({tensor, recipe});
  return found == versions_.end() ? nullptr : found->second.lock();
}

std::shared_ptr<const PruneScores> WeightStore::findScores(size_t tensor, const Recipe& recipe) {
  if (recipe.prune.empty()) return nullptr;
  std::scoped_lock lock(mutex_);
  const auto found = scores_.find({tensor, recipe.scoresKey()});
  return found == scores_.end() ? nullptr : found->second.lock();
}

Result<std::shared_ptr<const WeightVersion>> WeightStore::make(size_t tensor, const Recipe& recipe, InputPreparer& preparer, GradientsByLayer& gradients,
                                                              const std::vector<SuperWeight>& super, const SharingFit* fit, std::span<const float> constants, ThreadPool& pool,
                                                              ConvertProgress& progress) {
  auto version = std::make_shared<WeightVersion>();
  const MasterTensor& own = model_->tensors()[tensor];
  try {
    std::optional<SummedTensor> sum;
    if (!recipe.sum.empty() && !place_->planning()) sum.emplace(*model_, own, recipe.sum, pool);
    std::optional<MasterTensor> fitted;
    if (!recipe.outputFit.empty() && !place_->planning()) fitted = fit->tensor(own);
    const MasterTensor& whole = fitted ? *fitted : sum ? sum->tensor() : own;
    std::optional<NarrowedTensor> narrow;
    double refitDamping = 0;
    std::vector<double> gone;
    if (recipe.kept && !place_->planning()) {
      narrow.emplace(whole, recipe.kept->list, pool, recipe.queryScale);
      if (!recipe.refit.empty()) {
        const auto damping = refitColumns(whole, recipe, preparer, pool, progress.progress(), *narrow);
        if (!damping) return damping.error();
        refitDamping = *damping > recipe.refitDamping ? *damping : 0;
      }
      if (recipe.addsConstants() && !narrowsRows(whole.role)) gone = goneOutputs(whole, narrow->tensor(), preparer, pool, progress.progress());
    }
    std::optional<FoldedTensor> fold;
    if (recipe.folds && !place_->planning()) fold.emplace(whole, *recipe.folds, pool);
    const MasterTensor shape = recipe.kept ? narrowedShape(whole, static_cast<int>(recipe.kept->list.size())) : recipe.folds ? foldedShape(whole, *recipe.folds) : MasterTensor();
    const MasterTensor& wide = narrow ? narrow->tensor() : fold ? fold->tensor() : recipe.kept || recipe.folds ? shape : whole;
    std::optional<SlicedTensor> turned;
    if (recipe.slice && !place_->planning()) turned.emplace(*model_, wide, *recipe.slice, pool);
    const MasterTensor slicedExtents = recipe.slice ? slicedShape(wide, recipe.slice->width()) : MasterTensor();
    const MasterTensor& master = turned ? turned->tensor() : recipe.slice ? slicedExtents : wide;
    Result<MethodInputs> inputs = place_->planning() ? MethodInputs() : inputsOf(master, recipe, preparer, gradients, super);
    if (!inputs) return inputs.error();
    inputs->gone = std::move(gone);
    version->damping = std::max({raised(inputs->prune, recipe.damping, 0), raised(inputs->recovery, recipe.damping, recoveryPenalty(recipe)),
                                 raised(inputs->quantize, recipe.damping, 0), refitDamping});
    version->kept = recipe.kept;
    version->slice = recipe.slice;
    version->folds = recipe.folds;
    version->columns.assign(inputs->scaling.columns.begin(), inputs->scaling.columns.end());
    version->divisors.assign(inputs->scaling.divisors.begin(), inputs->scaling.divisors.end());
    if (recipe.queryScale != 1) version->divisors.assign(static_cast<size_t>(master.rows), 1 / recipe.queryScale);
    std::optional<MasterTensor> moved;
    std::vector<float> values;
    if (!constants.empty()) {
      values.resize(constants.size());
      decodeScaled(master, 0, 1, std::exchange(inputs->scaling, {}), values.data());
      for (size_t c = 0; c < values.size(); ++c) values[c] += constants[c];
      moved = masterOf(master, values.data());
      version->constants.assign(constants.begin(), constants.end());
    }
    if (Status made = convertInto(*version, {moved ? *moved : master, recipe, *inputs, pool, progress, findScores(tensor, recipe)}); !made) return made.error();
    if (recipe.addsConstants() && !model_->find(biasOf(own.role), own.layer))
      if (Status added = addBias(own, *version, pool, progress.progress()); !added) return added.error();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory for the weights: tensor " + own.fileName + " as " + recipe.format.describe() +
                                           " did not fit.", "Choose fewer bits, or a smaller model."};
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), ""};
  }
  auto kept = keep(tensor, recipe.key(), version);
  std::scoped_lock lock(mutex_);
  if (kept == version && version->scores) scores_[{tensor, recipe.scoresKey()}] = version->scores;
  return kept;
}

// Of a layer whose model has none.
Status WeightStore::addBias(const MasterTensor& linear, WeightVersion& version, ThreadPool& pool, const Progress& progress) const {
  MasterTensor shape = linear;
  shape.role = biasOf(linear.role);
  shape.rows = 1;
  shape.cols = version.matrix.rows;
  Recipe recipe;
  recipe.format = kBiasFormat;
  recipe.constantsOf = linear.fileName;
  const Progress silent{{}, progress.stop};
  ConvertProgress uncounted(silent, 0);
  const MethodInputs none;
  auto bias = std::make_shared<WeightVersion>();
  if (Status made = convertInto(*bias, {masterOf(shape, version.constants.data()), recipe, none, pool, uncounted}); !made) return made;
  version.bias = std::move(bias);
  version.constants = {};
  return Done{};
}

Status WeightStore::convertInto(WeightVersion& version, const WeightWork& work) const {
  switch (place_->make(work, version)) {
    case Converted::done: break;
    case Converted::cancelled: return cancelled();
    case Converted::damaged:
      if (Status sound = model_->validateValues(); !sound) return sound.error();
      return Error{ErrorCode::badInput, model_->path() + ": tensor " + work.tensor.fileName + " decodes to a value that is not finite.", ""};
  }
  return Done{};
}

std::shared_ptr<const WeightVersion> WeightStore::keep(size_t tensor, const std::string& recipe, std::shared_ptr<const WeightVersion> version) {
  std::scoped_lock lock(mutex_);
  auto& place = versions_[{tensor, recipe}];
  if (auto other = place.lock()) return other;  // another session was faster
  place = version;
  return version;
}

}  // namespace winnow
