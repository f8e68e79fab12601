// SPDX-License-Identifier: GPL-3.0-or-later
// One set of a store: what is left of the model, then tensor after tensor, each in its place.
#include <algorithm>
#include <new>

#include "engine/core/check.h"
#include "engine/core/recycled_memory.h"
#include "engine/prune/laco.h"
#include "engine/sparsify/step.h"
#include "engine/weights/constants.h"
#include "engine/weights/head_folds.h"
#include "engine/weights/narrowing.h"
#include "engine/weights/store.h"

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

bool ofAttention(TensorRole role) { return role >= TensorRole::attnNorm && role <= TensorRole::kNorm; }
bool dropped(const MasterTensor& tensor, const std::vector<LayerParts>& parts) {
  if (tensor.layer < 0) return false;
  const LayerParts& left = parts[static_cast<size_t>(tensor.layer)];
  return !(ofAttention(tensor.role) ? left.attention : left.ffn);
}

bool fits(const SharingFit* fit, const MasterTensor& tensor) { return fit && fit->replaces(tensor.role, tensor.layer); }

Recipe narrowedFor(const WeightTarget& target, Recipe recipe, const MasterTensor& tensor, const KeptOfLayer& kept) {
  if (kept.attention.folds && (tensor.role == TensorRole::v || tensor.role == TensorRole::vBias || tensor.role == TensorRole::o)) return folded(std::move(recipe), kept.attention.folds);
  const Channels channels = narrowable(tensor.role) ? keptOf(kept, tensor.role) : nullptr;
  if (!channels) return recipe;
  const auto left = [&](const auto& choice) { return narrowed(std::move(recipe), tensor.role, channels, choice.recovery, choice.damping, target.calibration ? target.calibration->identity() : ""); };
  if (!ofAttention(tensor.role)) return left(*target.width);
  if (target.heads) return left(*target.heads);
  if (tensor.role == TensorRole::q || tensor.role == TensorRole::qBias) recipe.queryScale = kept.attention.queryScale;
  return left(*target.headDims);
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

class WeightStore::Build {
 public:
  Build(WeightStore& store, const WeightTarget& target, ThreadPool& pool, const Measurements& measurements, const Progress& progress, LayerPublishing publishing)
      : store_(store), target_(target), pool_(pool), measurements_(measurements), progress_(progress), publishing_(std::move(publishing)) {}
  Result<std::shared_ptr<const WeightSet>> run();

 private:
  Status measure();
  Status decide();
  std::span<const float> addConstants(const MasterTensor& tensor, Recipe& recipe) const;
  Status makeTensor(size_t i, GradientsByLayer& gradients, ConvertProgress& converted);
  Status makeAll();
  Status addBeside(ConvertProgress& converted);
  void put(const MasterTensor& tensor, std::shared_ptr<const WeightVersion> version);
  void publish(int layer);
  Result<LayersLeft> layersLeft() const;
  Result<std::vector<Channels>> channelsLeft();
  Result<std::vector<KeptAttention>> attentionLeft() const;
  Result<std::shared_ptr<const SharingFit>> sharingFit() const;
  void noteDamping();
  void noteMerges();
  void noteFit();
  void noteSuperWeights();

  WeightStore& store_;
  const WeightTarget& target_;
  ThreadPool& pool_;
  const Measurements& measurements_;
  const Progress& progress_;
  LayerPublishing publishing_;
  std::shared_ptr<WeightSet> set_ = std::make_shared<WeightSet>();
  // What was measured, and what follows from it.
  std::shared_ptr<const Calibration> statistics_;
  std::shared_ptr<const std::vector<SuperWeight>> super_ = std::make_shared<const std::vector<SuperWeight>>();
  std::shared_ptr<const SharingFit> fit_;
  LayersLeft left_;
  std::vector<KeptOfLayer> kept_;  // [layers]
  Bases bases_;
  std::optional<InputPreparer> preparer_;
  std::vector<std::string> keys_;  // [tensors] of the recipes
};

// A plan knows how many layers go, not which: it takes those that go where nothing was measured, and all of them.
Result<LayersLeft> WeightStore::Build::layersLeft() const {
  const int layers = store_.model_->config().layers;
  if (target_.left) return *target_.left;
  if (target_.layers.count > 0 && mergesLayers(target_.layers.method)) {
    if (store_.place_->planning()) return mergeLayers(target_.layers, layers, [](const LayersLeft&) { return Result<double>(1.0); });
    return measurements_.merged(target_.layers, *target_.calibration, progress_);
  }
  if (statistics_) return LayersLeft{partsLeft(target_.layers, statistics_->stream()), {}};
  Ledger uncounted;
  return LayersLeft{partsLeft(target_.layers, ResidualCosines(uncounted, layers, 0)), {}};
}

Result<std::vector<Channels>> WeightStore::Build::channelsLeft() {
  if (!target_.width) return std::vector<Channels>(left_.parts.size());
  if (store_.place_->planning()) return ChannelScores::planned(*store_.model_, *target_.width, left_);
  try {
    return store_.channelScores_.keep(*store_.model_, *target_.width, left_, statistics_.get(), target_.calibration ? target_.calibration->identity() : "", *preparer_, pool_, progress_);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to judge the channels of the feed-forwards.", "Choose prune.width_method=minitron, or a smaller model."};
  }
}

Result<std::vector<KeptAttention>> WeightStore::Build::attentionLeft() const {
  if (store_.place_->planning()) return plannedAttention(store_.model_->config(), target_);
  std::shared_ptr<const HeadRelevance> relevance;
  if (target_.heads && findHeadMethod(target_.heads->method)->relevance) {
    auto measured = measurements_.relevance(*target_.calibration, progress_);
    if (!measured) return measured.error();
    relevance = *measured;
  }
  try {
    return attentionLeftBy(*store_.model_, target_, statistics_.get(), relevance.get(), pool_, progress_);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to judge the heads.", "Choose random as the method, or a smaller model."};
  }
}

void WeightStore::Build::noteDamping() {
  double most = 0, asked = 0;
  int count = 0;
  for (size_t i = 0; i < set_->versions.size(); ++i) {
    if (set_->versions[i]->damping == 0) continue;
    most = std::max(most, set_->versions[i]->damping);
    asked = std::max({target_.recipes[i].damping, target_.width ? target_.width->damping : 0, target_.heads ? target_.heads->damping : 0, target_.headDims ? target_.headDims->damping : 0});
    ++count;
  }
  if (count > 0)
    set_->adjustments.push_back({"calibration.damping", asked, most,
                               "the second moments of the inputs of " + std::to_string(count) + " matrices have no inverse with a damping of " + toText(KnobValue{asked}) +
                                   ": it was raised for those, at most to " + toText(KnobValue{most}) + "."});
}

void WeightStore::Build::noteMerges() {
  if (!mergesLayers(target_.layers.method) || target_.left || store_.place_->planning()) return;
  const auto gone = std::count(set_->parts.begin(), set_->parts.end(), LayerParts{false, false});
  if (gone < target_.layers.count)
    set_->adjustments.push_back({"prune.layers", int64_t{target_.layers.count}, int64_t{gone},
                               "merging more layers would leave last hidden states whose cosine is not above prune.merge_similarity. Lower it to go on."});
}

// A plan knows which layers would follow: the projections of all of them are others.
Result<std::shared_ptr<const SharingFit>> WeightStore::Build::sharingFit() const {
  if (!target_.sharing) return std::shared_ptr<const SharingFit>();
  if (store_.place_->planning()) return SharingFit::planned(store_.model_->config(), *target_.sharing, left_);
  CHECK(measurements_.sharing, target_.sharing->key());
  return measurements_.sharing(*target_.sharing, left_, progress_);
}

void WeightStore::Build::noteFit() {
  if (fit_ && target_.sharing->refit && !store_.place_->planning() && std::ranges::none_of(fit_->followers, [](const FollowerFit& f) { return f.refitted; }))
    set_->adjustments.push_back({"share.refit", true, false,
                                 "no output fitted anew came closer on the last fifth of the calibration text, which the fit had not seen. Choose more calibration.tokens."});
}

void WeightStore::Build::noteSuperWeights() {
  if (!target_.superWeights || !super_->empty() || store_.place_->planning()) return;
  const auto asks = std::ranges::find_if(target_.recipes, [](const Recipe& recipe) { return recipe.super != SuperWeights::asOthers; });
  if (asks != target_.recipes.end())
    set_->adjustments.push_back({"weights.super", std::string(asks->super == SuperWeights::keep ? "keep" : "zero"), std::string("off"), "no weight of this model stands out as a super weight."});
}

Status WeightStore::Build::measure() {
  if (store_.place_->planning()) return Done{};
  if (target_.calibration) {
    auto measured = measurements_.calibration(*target_.calibration, progress_);
    if (!measured) return measured.error();
    statistics_ = *measured;
  }
  if (target_.superWeights) {
    auto found = measurements_.superWeights(progress_);
    if (!found) return found.error();
    super_ = *found;
  }
  return Done{};
}

// What of the model is left.
Status WeightStore::Build::decide() {
  auto left = layersLeft();
  if (!left) return left.error();
  left_ = std::move(*left);
  set_->model = store_.model_;
  set_->key = target_.key;
  set_->anyPacked = target_.anyPacked;
  set_->takesInt8 = target_.takesInt8;
  set_->parts = left_.parts;
  auto fit = sharingFit();
  if (!fit) return fit.error();
  fit_ = std::move(*fit);
  if (fit_) set_->sharing = fit_->sharing;
  set_->layers.resize(static_cast<size_t>(store_.model_->config().layers));
  preparer_.emplace(*store_.model_, statistics_.get(), pool_, progress_);
  auto channels = channelsLeft();
  if (!channels) return channels.error();
  set_->channels = std::move(*channels);
  auto attention = attentionLeft();
  if (!attention) return attention.error();
  set_->attention = std::move(*attention);
  set_->narrowShape = narrowShape(store_.model_->config(), target_);
  set_->attentionKey = target_.attentionKey;
  kept_ = keptOfLayers(set_->channels, set_->attention);
  preparer_->narrow(kept_);
  auto bases = store_.streamBases(target_, measurements_, progress_);
  if (!bases) return bases.error();
  bases_ = *bases;
  if (bases_) set_->sliceWidth = bases_->width();
  preparer_->slice(bases_);
  return Done{};
}

void WeightStore::Build::put(const MasterTensor& tensor, std::shared_ptr<const WeightVersion> version) {
  if (isMatrix(tensor.role))
    *matrixSlot(*set_, tensor.role, tensor.layer) = &version->matrix;
  else
    *vectorSlot(*set_, tensor.role, tensor.layer) = static_cast<const float*>(version->matrix.data);
  if (version->bias) *vectorSlot(*set_, biasOf(tensor.role), tensor.layer) = static_cast<const float*>(version->bias->matrix.data);
  if (version->error) *errorSlot(set_->layers[static_cast<size_t>(tensor.layer)], tensor.role) = &version->error;
  if (!version->corrections.empty()) set_->layers[static_cast<size_t>(tensor.layer)].downCorrections = &version->corrections;
  set_->versions.push_back(std::move(version));
}

// A bias has the constants of its matrix in it, which came before. They are known once that was made: a plan has none.
std::span<const float> WeightStore::Build::addConstants(const MasterTensor& tensor, Recipe& recipe) const {
  const TensorRole role = linearOf(tensor.role);
  const std::vector<MasterTensor>& tensors = store_.model_->tensors();
  const MasterTensor* linear = role == TensorRole::count ? nullptr : store_.model_->find(role, tensor.layer);
  if (!linear) return {};
  const auto at = static_cast<size_t>(linear - tensors.data());
  CHECK(at < set_->versions.size(), tensor.fileName);
  if (!recipeFor(target_, at, *linear, left_, fit_.get(), kept_, bases_).addsConstants()) return {};
  recipe.constantsOf = keys_[at];
  return set_->versions[at]->constants;
}

Status WeightStore::Build::makeTensor(size_t i, GradientsByLayer& gradients, ConvertProgress& converted) {
  const MasterTensor& tensor = store_.model_->tensors()[i];
  if (progress_.stopped()) return cancelled();
  if (dropped(tensor, set_->parts)) {
    set_->versions.push_back(std::make_shared<WeightVersion>());
    converted.advance(tensor.rows * tensor.cols);
    return Done{};
  }
  Recipe recipe = recipeFor(target_, i, tensor, left_, fit_.get(), kept_, bases_);
  const std::span<const float> constants = addConstants(tensor, recipe);
  keys_[i] = recipe.key();
  std::shared_ptr<const WeightVersion> version = store_.find(i, keys_[i]);
  if (version) {
    converted.advance(tensor.rows * tensor.cols);
  } else {
    auto made = store_.make(i, recipe, *preparer_, gradients, *super_, fit_.get(), constants, pool_, converted);
    if (!made) return made.error();
    version = std::move(*made);
  }
  put(tensor, std::move(version));
  return Done{};
}

void WeightStore::Build::publish(int layer) {
  publishing_.from = store_.withLayer(*publishing_.from, *set_, layer);
  publishing_.publish(publishing_.from);
}

Status WeightStore::Build::makeAll() {
  std::shared_ptr<const WeightSet> masked;  // held from one measurement in it to the next
  GradientsByLayer gradients(*store_.model_, [&](LayerRange layers) -> Result<std::shared_ptr<const BlockGradients>> {
    if (!masked) {
      auto built = store_.build(*target_.masked, pool_, measurements_, progress_);
      if (!built) return built.error();
      masked = std::move(*built);
    }
    return measurements_.gradients(*target_.masked, *target_.calibration, layers, progress_);
  });
  const std::vector<MasterTensor>& tensors = store_.model_->tensors();
  int64_t total = 0;
  for (const MasterTensor& tensor : tensors) total += tensor.rows * tensor.cols;
  ConvertProgress converted(progress_, total);
  const bool byLayer = publishing_.from && wholeLayers(*publishing_.from) && wholeLayers(target_);
  std::optional<RecycledMemory> recycled;
  if (byLayer) recycled.emplace();
  keys_.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (Status made = makeTensor(i, gradients, converted); !made) return made.error();
    const int layer = tensors[i].layer;
    if (byLayer && layer >= 0 && (i + 1 == tensors.size() || tensors[i + 1].layer != layer)) publish(layer);
  }
  return addBeside(converted);
}

// What no tensor of the model is.
Status WeightStore::Build::addBeside(ConvertProgress& converted) {
  if (bases_)
    if (Status shortcuts = store_.addShortcuts(target_, bases_, *set_, pool_, converted); !shortcuts) return shortcuts.error();
  if (!set_->head) set_->head = set_->embedding;
  if (target_.activation.empty()) return Done{};
  auto sparse = store_.makeSparse(target_, *set_, keys_, pool_, measurements_, progress_);
  if (!sparse) return sparse.error();
  set_->sparse = std::move(*sparse);
  return Done{};
}

Result<std::shared_ptr<const WeightSet>> WeightStore::Build::run() {
  if (Status done = measure(); !done) return done.error();
  if (Status done = decide(); !done) return done.error();
  if (Status done = makeAll(); !done) return done.error();
  noteDamping();
  noteMerges();
  noteFit();
  noteSuperWeights();
  std::scoped_lock lock(store_.mutex_);
  set_->serial = ++store_.sets_;
  return std::shared_ptr<const WeightSet>(std::move(set_));
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
  return Build(*this, target, pool, measurements, progress, std::move(publishing)).run();
}

}  // namespace winnow
