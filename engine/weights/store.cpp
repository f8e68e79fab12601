// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/store.h"

#include <algorithm>
#include <new>

#include "engine/core/check.h"
#include "engine/core/device_failure.h"
#include "engine/prune/laco.h"
#include "engine/recover/method.h"
#include "engine/weights/head_folds.h"
#include "engine/weights/narrowing.h"
#include "engine/sparsify/step.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {
namespace {

// Where a tensor of a role goes in the set.
const Matrix** matrixSlot(WeightSet& set, TensorRole role, int layer) {
  switch (role) {
    case TensorRole::tokenEmbedding: return &set.embedding;
    case TensorRole::positionEmbedding: return &set.positions;
    case TensorRole::head: return &set.head;
    default: break;
  }
  LayerWeights& w = set.layers[static_cast<size_t>(layer)];
  switch (role) {
    case TensorRole::q: return &w.q;
    case TensorRole::k: return &w.k;
    case TensorRole::v: return &w.v;
    case TensorRole::o: return &w.o;
    case TensorRole::gate: return &w.gate;
    case TensorRole::up: return &w.up;
    default: return &w.down;
  }
}

const ErrorFactors** errorSlot(LayerWeights& w, TensorRole role) {
  switch (role) {
    case TensorRole::q: return &w.qError;
    case TensorRole::k: return &w.kError;
    case TensorRole::v: return &w.vError;
    case TensorRole::o: return &w.oError;
    case TensorRole::gate: return &w.gateError;
    case TensorRole::up: return &w.upError;
    default: CHECK(role == TensorRole::down, "no factors for", tensorRoleName(role)); return &w.downError;
  }
}

const float** vectorSlot(WeightSet& set, TensorRole role, int layer) {
  if (role == TensorRole::outputNorm) return &set.outputNorm;
  if (role == TensorRole::outputNormBias) return &set.outputNormBias;
  LayerWeights& w = set.layers[static_cast<size_t>(layer)];
  switch (role) {
    case TensorRole::attnNorm: return &w.attnNorm;
    case TensorRole::attnNormBias: return &w.attnNormBias;
    case TensorRole::ffnNorm: return &w.ffnNorm;
    case TensorRole::ffnNormBias: return &w.ffnNormBias;
    case TensorRole::qBias: return &w.qBias;
    case TensorRole::kBias: return &w.kBias;
    case TensorRole::vBias: return &w.vBias;
    case TensorRole::oBias: return &w.oBias;
    case TensorRole::gateBias: return &w.gateBias;
    case TensorRole::upBias: return &w.upBias;
    case TensorRole::downBias: return &w.downBias;
    case TensorRole::qNorm: return &w.qNorm;
    case TensorRole::kNorm: return &w.kNorm;
    default: CHECK(false, "no place for", tensorRoleName(role)); return nullptr;
  }
}

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
  if (!recipe.pruneNeeds.any() && !recipe.recoveryNeeds.any() && !recipe.methodNeeds.any()) return out;
  const LinearInput input = linearInputOf(tensor.role);
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

bool ofAttention(TensorRole role) { return role >= TensorRole::attnNorm && role <= TensorRole::kNorm; }
bool dropped(const MasterTensor& tensor, const std::vector<LayerParts>& parts) {
  if (tensor.layer < 0) return false;
  const LayerParts& left = parts[static_cast<size_t>(tensor.layer)];
  return !(ofAttention(tensor.role) ? left.attention : left.ffn);
}

bool fits(const SharingFit* fit, const MasterTensor& tensor) { return fit && tensor.role == TensorRole::o && fit->refits(tensor.layer); }

Recipe narrowedFor(const WeightTarget& target, Recipe recipe, const MasterTensor& tensor, const KeptOfLayer& kept) {
  if (kept.attention.folds && (tensor.role == TensorRole::v || tensor.role == TensorRole::vBias || tensor.role == TensorRole::o)) return folded(std::move(recipe), kept.attention.folds);
  const Channels channels = narrowable(tensor.role) ? keptOf(kept, tensor.role) : nullptr;
  if (!channels) return recipe;
  if (!ofAttention(tensor.role)) return narrowed(std::move(recipe), tensor.role, channels, target.width->recovery, target.width->damping);
  if (target.heads) return narrowed(std::move(recipe), tensor.role, channels, target.heads->recovery, target.heads->damping);
  if (tensor.role == TensorRole::q || tensor.role == TensorRole::qBias) recipe.queryScale = kept.attention.queryScale;
  return narrowed(std::move(recipe), tensor.role, channels, target.headDims->recovery, target.headDims->damping);
}

std::vector<KeptOfLayer> keptOfLayers(const std::vector<Channels>& channels, const std::vector<KeptAttention>& attention) {
  std::vector<KeptOfLayer> out;
  for (size_t layer = 0; layer < channels.size(); ++layer) out.push_back({channels[layer], attention[layer]});
  return out;
}

// The target's recipe of tensor i, of what is left of the layer it belongs to.
Recipe recipeFor(const WeightTarget& target, size_t i, const MasterTensor& tensor, const LayersLeft& left, const SharingFit* fit, const std::vector<KeptOfLayer>& kept, const Bases& bases) {
  const auto turned = [&](Recipe recipe) { return bases && slices(tensor.role) ? sliced(std::move(recipe), bases) : recipe; };
  if (tensor.layer < 0) return turned(target.recipes[i]);
  const auto layer = static_cast<size_t>(tensor.layer);
  Recipe recipe = !left.sums.empty() && !left.sums[layer].empty() ? summed(target.recipes[i], left.sums[layer]) : target.recipes[i];
  if (fits(fit, tensor)) recipe = refitted(std::move(recipe), fit->key);
  return turned(narrowedFor(target, std::move(recipe), tensor, kept[layer]));
}

// Whether a layer of one set fits between those of another.
bool wholeLayers(const WeightTarget& target) {
  return target.layers.count == 0 && !target.left && !target.sharing && !target.width && target.attentionKey.empty() && !target.slice && target.activation.empty();
}
bool wholeLayers(const WeightSet& set) {
  return set.parts == allParts(static_cast<int>(set.layers.size())) && set.sharing.empty() && set.attentionKey.empty() && set.sliceWidth == 0 && !set.sparse &&
         std::ranges::all_of(set.channels, [](const Channels& kept) { return kept == nullptr; });
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

int64_t WeightStore::bytesToMake(const WeightTarget& target) {
  if (target.slice) return bytesOfSliced(target);  // nobody holds any, as far as a plan can know
  int64_t sum = 0;
  for (size_t i = 0; i < target.recipes.size(); ++i)
    if (!find(i, target.recipes[i].key())) sum += place_->bytes(model_->tensors()[i], target.recipes[i]);
  if (!target.width && !target.heads && !target.headDims) return sum;
  // Of narrowed blocks nobody holds any, as far as a plan can know.
  const LayersLeft all{allParts(model_->config().layers), {}};
  const std::vector<Channels> channels = target.width ? ChannelScores::planned(*model_, *target.width, all) : std::vector<Channels>(all.parts.size());
  const std::vector<KeptOfLayer> kept = keptOfLayers(channels, plannedAttention(model_->config(), target));
  for (size_t i = 0; i < target.recipes.size(); ++i) {
    const MasterTensor& tensor = model_->tensors()[i];
    if (tensor.layer < 0) continue;
    const Recipe recipe = narrowedFor(target, target.recipes[i], tensor, kept[static_cast<size_t>(tensor.layer)]);
    if (!recipe.kept && !recipe.folds) continue;
    if (!find(i, target.recipes[i].key())) sum -= place_->bytes(tensor, target.recipes[i]);
    sum += place_->bytes(recipe.folds ? foldedShape(tensor, *recipe.folds) : narrowedShape(tensor, static_cast<int>(recipe.kept->list.size())), recipe);
  }
  return sum;
}

Result<std::shared_ptr<const WeightVersion>> WeightStore::make(size_t tensor, const Recipe& recipe, InputPreparer& preparer, GradientsByLayer& gradients,
                                                              const std::vector<SuperWeight>& super, const SharingFit* fit, ThreadPool& pool, ConvertProgress& progress) {
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
    if (recipe.kept && !place_->planning()) {
      narrow.emplace(whole, recipe.kept->list, pool, recipe.queryScale);
      if (!recipe.refit.empty()) {
        const auto damping = refitColumns(whole, recipe, preparer, pool, progress.progress(), *narrow);
        if (!damping) return damping.error();
        refitDamping = *damping > recipe.refitDamping ? *damping : 0;
      }
    }
    std::optional<FoldedTensor> fold;
    if (recipe.folds && !place_->planning()) fold.emplace(whole, *recipe.folds, pool);
    const MasterTensor shape = recipe.kept ? narrowedShape(whole, static_cast<int>(recipe.kept->list.size())) : recipe.folds ? foldedShape(whole, *recipe.folds) : MasterTensor();
    const MasterTensor& wide = narrow ? narrow->tensor() : fold ? fold->tensor() : recipe.kept || recipe.folds ? shape : whole;
    std::optional<SlicedTensor> turned;
    if (recipe.slice && !place_->planning()) turned.emplace(*model_, wide, *recipe.slice, pool);
    const MasterTensor slicedExtents = recipe.slice ? slicedShape(wide, recipe.slice->width()) : MasterTensor();
    const MasterTensor& master = turned ? turned->tensor() : recipe.slice ? slicedExtents : wide;
    const Result<MethodInputs> inputs = place_->planning() ? MethodInputs() : inputsOf(master, recipe, preparer, gradients, super);
    if (!inputs) return inputs.error();
    version->damping = std::max({raised(inputs->prune, recipe.damping, 0), raised(inputs->recovery, recipe.damping, recoveryPenalty(recipe)),
                                 raised(inputs->quantize, recipe.damping, 0), refitDamping});
    version->kept = recipe.kept;
    version->slice = recipe.slice;
    version->folds = recipe.folds;
    version->columns.assign(inputs->scaling.columns.begin(), inputs->scaling.columns.end());
    version->divisors.assign(inputs->scaling.divisors.begin(), inputs->scaling.divisors.end());
    if (recipe.queryScale != 1) version->divisors.assign(static_cast<size_t>(master.rows), 1 / recipe.queryScale);
    if (Status made = convertInto(*version, {master, recipe, *inputs, pool, progress, findScores(tensor, recipe)}); !made) return made.error();
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

// A plan knows how many layers go, not which: it takes those that go where nothing was measured, and all of them.
Result<LayersLeft> WeightStore::layersLeft(const WeightTarget& target, const Calibration* statistics, const Measurements& measurements,
                                           const Progress& progress) const {
  const int layers = model_->config().layers;
  if (target.left) return *target.left;
  if (target.layers.count > 0 && mergesLayers(target.layers.method)) {
    if (place_->planning()) return mergeLayers(target.layers, layers, [](const LayersLeft&) { return Result<double>(1.0); });
    return measurements.merged(target.layers, *target.calibration, progress);
  }
  if (statistics) return LayersLeft{partsLeft(target.layers, statistics->stream()), {}};
  Ledger uncounted;
  return LayersLeft{partsLeft(target.layers, ResidualCosines(uncounted, layers, 0)), {}};
}

Result<std::vector<Channels>> WeightStore::channelsLeft(const WeightTarget& target, const LayersLeft& left, const Calibration* statistics, InputPreparer& preparer,
                                                        ThreadPool& pool, const Progress& progress) {
  if (!target.width) return std::vector<Channels>(left.parts.size());
  if (place_->planning()) return ChannelScores::planned(*model_, *target.width, left);
  try {
    return channelScores_.keep(*model_, *target.width, left, statistics, target.calibration ? target.calibration->identity() : "", preparer, pool, progress);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to judge the channels of the feed-forwards.", "Choose prune.width_method=minitron, or a smaller model."};
  }
}

Result<std::vector<KeptAttention>> WeightStore::attentionLeft(const WeightTarget& target, const Calibration* statistics, const Measurements& measurements, ThreadPool& pool,
                                                              const Progress& progress) const {
  if (place_->planning()) return plannedAttention(model_->config(), target);
  std::shared_ptr<const HeadRelevance> relevance;
  if (target.heads && findHeadMethod(target.heads->method)->relevance) {
    auto measured = measurements.relevance(*target.calibration, progress);
    if (!measured) return measured.error();
    relevance = *measured;
  }
  try {
    return attentionLeftBy(*model_, target, statistics, relevance.get(), pool, progress);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to judge the heads.", "Choose random as the method, or a smaller model."};
  }
}

void WeightStore::noteDamping(const WeightTarget& target, WeightSet& set) const {
  double most = 0, asked = 0;
  int count = 0;
  for (size_t i = 0; i < set.versions.size(); ++i) {
    if (set.versions[i]->damping == 0) continue;
    most = std::max(most, set.versions[i]->damping);
    asked = std::max({target.recipes[i].damping, target.width ? target.width->damping : 0, target.heads ? target.heads->damping : 0, target.headDims ? target.headDims->damping : 0});
    ++count;
  }
  if (count > 0)
    set.adjustments.push_back({"calibration.damping", asked, most,
                               "the second moments of the inputs of " + std::to_string(count) + " matrices have no inverse with a damping of " + toText(KnobValue{asked}) +
                                   ": it was raised for those, at most to " + toText(KnobValue{most}) + "."});
}

void WeightStore::noteMerges(const WeightTarget& target, WeightSet& set) const {
  if (!mergesLayers(target.layers.method) || target.left || place_->planning()) return;
  const auto gone = std::count(set.parts.begin(), set.parts.end(), LayerParts{false, false});
  if (gone < target.layers.count)
    set.adjustments.push_back({"prune.layers", int64_t{target.layers.count}, int64_t{gone},
                               "merging more layers would leave last hidden states whose cosine is not above prune.merge_similarity. Lower it to go on."});
}

// A plan knows which layers would follow: the projections of all of them are others.
Result<std::shared_ptr<const SharingFit>> WeightStore::sharingFit(const WeightTarget& target, const LayersLeft& left, const Measurements& measurements,
                                                                  const Progress& progress) const {
  if (!target.sharing) return std::shared_ptr<const SharingFit>();
  if (place_->planning()) return SharingFit::planned(*target.sharing, left);
  CHECK(measurements.sharing, target.sharing->key());
  return measurements.sharing(*target.sharing, left, progress);
}

std::shared_ptr<const WeightSet> WeightStore::withLayer(const WeightSet& before, const WeightSet& made, int layer) {
  auto set = std::make_shared<WeightSet>(before);
  const auto at = static_cast<size_t>(layer);
  set->layers[at] = made.layers[at];
  for (size_t i = 0; i < made.versions.size(); ++i)
    if (model_->tensors()[i].layer == layer) set->versions[i] = made.versions[i];
  set->partOf = made.key;
  set->newLayers = before.partOf == made.key ? before.newLayers + 1 : 1;
  set->key = made.key + "in " + std::to_string(set->newLayers) + " layers";
  set->anyPacked |= made.anyPacked;
  set->takesInt8 |= made.takesInt8;
  set->adjustments.clear();
  std::scoped_lock lock(mutex_);
  set->serial = ++sets_;
  return set;
}

Result<std::shared_ptr<const WeightSet>> WeightStore::build(const WeightTarget& target, ThreadPool& pool, const Measurements& measurements,
                                                            const Progress& progress, LayerPublishing publishing) {
  CHECK(target.recipes.size() == model_->tensors().size(), target.recipes.size());
  std::shared_ptr<const Calibration> statistics;
  if (target.calibration && !place_->planning()) {
    auto measured = measurements.calibration(*target.calibration, progress);
    if (!measured) return measured.error();
    statistics = *measured;
  }
  std::shared_ptr<const std::vector<SuperWeight>> super = std::make_shared<const std::vector<SuperWeight>>();
  if (target.superWeights && !place_->planning()) {
    auto found = measurements.superWeights(progress);
    if (!found) return found.error();
    super = *found;
  }
  std::shared_ptr<const WeightSet> masked;  // held from one measurement in it to the next
  GradientsByLayer gradients(*model_, [&](LayerRange layers) -> Result<std::shared_ptr<const BlockGradients>> {
    if (!masked) {
      auto built = build(*target.masked, pool, measurements, progress);
      if (!built) return built.error();
      masked = std::move(*built);
    }
    return measurements.gradients(*target.masked, *target.calibration, layers, progress);
  });
  auto set = std::make_shared<WeightSet>();
  auto left = layersLeft(target, statistics.get(), measurements, progress);
  if (!left) return left.error();
  set->model = model_;
  set->key = target.key;
  set->anyPacked = target.anyPacked;
  set->takesInt8 = target.takesInt8;
  set->parts = left->parts;
  auto fit = sharingFit(target, *left, measurements, progress);
  if (!fit) return fit.error();
  if (*fit) set->sharing = (*fit)->sharing;
  set->layers.resize(static_cast<size_t>(model_->config().layers));
  int64_t total = 0;
  for (const MasterTensor& tensor : model_->tensors()) total += tensor.rows * tensor.cols;
  ConvertProgress converted(progress, total);
  InputPreparer preparer(*model_, statistics.get(), pool, progress);
  auto channels = channelsLeft(target, *left, statistics.get(), preparer, pool, progress);
  if (!channels) return channels.error();
  set->channels = std::move(*channels);
  auto attention = attentionLeft(target, statistics.get(), measurements, pool, progress);
  if (!attention) return attention.error();
  set->attention = std::move(*attention);
  set->narrowShape = narrowShape(model_->config(), target);
  set->attentionKey = target.attentionKey;
  const std::vector<KeptOfLayer> kept = keptOfLayers(set->channels, set->attention);
  preparer.narrow(kept);
  auto bases = streamBases(target, measurements, progress);
  if (!bases) return bases.error();
  if (*bases) set->sliceWidth = (*bases)->width();
  preparer.slice(*bases);
  std::vector<std::string> keys(target.recipes.size());
  const bool byLayer = publishing.from && wholeLayers(*publishing.from) && wholeLayers(target);
  for (size_t i = 0; i < target.recipes.size(); ++i) {
    const MasterTensor& tensor = model_->tensors()[i];
    if (progress.stopped()) return cancelled();
    if (dropped(tensor, set->parts)) {
      set->versions.push_back(std::make_shared<WeightVersion>());
      converted.advance(tensor.rows * tensor.cols);
      continue;
    }
    const Recipe recipe = recipeFor(target, i, tensor, *left, fit->get(), kept, *bases);
    keys[i] = recipe.key();
    std::shared_ptr<const WeightVersion> version = find(i, keys[i]);
    if (version) {
      converted.advance(tensor.rows * tensor.cols);
    } else {
      auto made = make(i, recipe, preparer, gradients, *super, fit->get(), pool, converted);
      if (!made) return made.error();
      version = std::move(*made);
    }
    if (isMatrix(tensor.role))
      *matrixSlot(*set, tensor.role, tensor.layer) = &version->matrix;
    else
      *vectorSlot(*set, tensor.role, tensor.layer) = static_cast<const float*>(version->matrix.data);
    if (version->error) *errorSlot(set->layers[static_cast<size_t>(tensor.layer)], tensor.role) = &version->error;
    if (!version->corrections.empty()) set->layers[static_cast<size_t>(tensor.layer)].downCorrections = &version->corrections;
    set->versions.push_back(std::move(version));
    const bool layerDone = tensor.layer >= 0 && (i + 1 == keys.size() || model_->tensors()[i + 1].layer != tensor.layer);
    if (!byLayer || !layerDone) continue;
    publishing.from = withLayer(*publishing.from, *set, tensor.layer);
    publishing.publish(publishing.from);
  }
  if (*bases)
    if (Status shortcuts = addShortcuts(target, *bases, *set, pool, converted); !shortcuts) return shortcuts.error();
  if (!set->head) set->head = set->embedding;
  if (!target.activation.empty()) {
    auto sparse = makeSparse(target, *set, keys, pool, measurements, progress);
    if (!sparse) return sparse.error();
    set->sparse = std::move(*sparse);
  }
  noteDamping(target, *set);
  noteMerges(target, *set);
  if (*fit && target.sharing->refit && !place_->planning() && std::ranges::none_of((*fit)->followers, [](const FollowerFit& f) { return f.refitted; }))
    set->adjustments.push_back({"share.refit", true, false,
                                "no output fitted anew came closer on the last fifth of the calibration text, which the fit had not seen. Choose more calibration.tokens."});
  const bool nothing = target.superWeights && super->empty() && !place_->planning();
  for (const Recipe& recipe : target.recipes)
    if (nothing && recipe.super != SuperWeights::asOthers && (set->adjustments.empty() || set->adjustments.back().knob != "weights.super"))
      set->adjustments.push_back({"weights.super", std::string(recipe.super == SuperWeights::keep ? "keep" : "zero"), std::string("off"),
                                  "no weight of this model stands out as a super weight."});
  std::scoped_lock lock(mutex_);
  set->serial = ++sets_;
  return std::shared_ptr<const WeightSet>(std::move(set));
}

}  // namespace winnow
