// SPDX-License-Identifier: GPL-3.0-or-later
// From a request to what runs, at the boundary between two tokens. Weights wait for the converter; sharing that needs keys which were
// never kept waits for the cache to be recomputed; the rest acts at once.
#include <algorithm>
#include <set>

#include "engine/cache/registry.h"
#include "engine/core/check.h"
#include "engine/run/session_impl.h"

namespace winnow {
namespace {

constexpr const char* kFallback = "fallback";  // cause of what no person asked for

bool isPreparedKnob(std::string_view name) { return isWeightKnob(name) || name == "activation.method"; }
bool isSharingKnob(std::string_view name) { return name.starts_with("share."); }

// Knobs of a kind keep running as they do; each that was to change gets the reason.
template <class Match>
void holdBack(Effective& next, const Config& running, Match match, const std::string& reason) {
  for (const auto& [name, value] : running.values()) {
    if (!match(name) || next.config.get(name) == value) continue;
    if (!reason.empty()) {
      std::erase_if(next.adjustments, [&](const Adjustment& a) { return a.knob == name; });
      next.adjustments.push_back({name, next.requested.get(name), value, reason});
    }
    next.config = next.config.with(name, value);
  }
}

}  // namespace

Session::Impl::Request Session::Impl::makeRequest(const Config& config, const std::string& cause) const {
  Request made{core->resolved(config), {}, cause};
  made.weights = core->targetOf(made.wanted.config);
  for (const Adjustment& adjustment : made.weights.adjustments) {
    made.wanted.adjustments.push_back(adjustment);
    made.wanted.config = made.wanted.config.with(adjustment.knob, adjustment.effective);
  }
  return made;
}

void Session::Impl::request(const Config& config, const std::string& cause) {
  Request made = makeRequest(config, cause);
  std::scoped_lock lock(mutex);
  if (made.weights.key == newest->key) {
    if (job) job->cancel();
    job.reset();
  } else if (!job || job->target.key != made.weights.key || job->error()) {
    if (job) job->cancel();
    job = core->converter.submit(made.weights, config.text("compute.publish") == "layers" ? newest : nullptr);
  }
  requested = std::move(made);
}

namespace {

// Rows that groups do not divide are packed all the same, and it is said; empty: there are none.
std::string shortGroups(const WeightSet& weights) {
  int count = 0;
  std::set<int> widths, groups;
  for (const auto& version : weights.versions) {
    const Matrix& matrix = version->matrix;
    if (matrix.format.storage != Storage::packed || matrix.format.group == 0 || matrix.cols % matrix.format.group == 0) continue;
    ++count;
    widths.insert(matrix.cols);
    groups.insert(matrix.format.group);
  }
  const auto listed = [](const std::set<int>& numbers) {
    std::string out;
    for (const int number : numbers) out += (out.empty() ? "" : ", ") + std::to_string(number);
    return out;
  };
  return count == 0 ? "" : "Groups of " + listed(groups) + " weights do not divide the rows of " + std::to_string(count) + " matrices (" + listed(widths) +
                               " wide): the last group of each row is shorter.";
}

}  // namespace

void Session::Impl::start(Request first, Weights set) {
  current = std::move(first);
  fitBackend(*set);
  weights = std::move(set);
  newest = weights;
  plan = buildPlan(model, noSharing(model.layers), weights->parts, weights->sliceWidth > 0);
  fitCache();
  effective.set(std::make_shared<Effective>(current.wanted));
  apply(nullptr, std::nullopt);
  events.clear();  // the first configuration is no change
  warnOfDecodedTypes();
  if (const std::string shorter = shortGroups(*weights); !shorter.empty()) emit(EngineEvent::Kind::warning, "weights.group", shorter);
  warnOfSelection();
  warnOfPlanes();
  if (model.context > 0 && context > model.context && farthest() > model.context)
    emit(EngineEvent::Kind::warning, "context.beyond_trained",
         "The context of " + std::to_string(context) + " tokens is longer than the " + std::to_string(model.context) + " the model was trained on.");
}

// The largest distance attention can count: of positions within the cache what it holds before it evicts.
int64_t Session::Impl::farthest() const {
  const EvictionSettings& settings = evictor.settings();
  if (!settings.positionsInCache || settings.budget <= 1) return context;
  return static_cast<int64_t>(settings.budget) + std::max(evictor.interval(context), backend->batch());
}

void Session::Impl::warnOfSelection() {
  if (evictor.selects())
    emit(EngineEvent::Kind::warning, "kv.frees_nothing",
         evictor.settings().policy + " keeps every token: each step reads a part of the cache, and no memory is freed. The first " +
             std::to_string(KvCache::kDenseLayers) + " layers and prompts read all of it.");
}

void Session::Impl::warnOfPlanes() {
  if (cache->format().aligned > 0)
    emit(EngineEvent::Kind::warning, "kv.frees_nothing",
         "Keys and values of 16 bits lie in bit planes: each step leaves out the bits it does not need, and no memory is freed. Prompts and the newest page are read whole.");
}

// Types that no format of ours holds exactly are computed as f16: no loss beside that of the file, but more memory than it takes.
void Session::Impl::warnOfDecodedTypes() {
  std::string types;
  for (size_t i = 0; i < weights->versions.size(); ++i) {
    const DType type = core->model->tensors()[i].type;
    const std::string name(dtypeTraits(type).name);
    if (!isBlockType(type) || weights->versions[i]->matrix.format.storage != Storage::f16 || types.find(name) != std::string::npos) continue;
    types += (types.empty() ? "" : ", ") + name;
  }
  if (!types.empty()) emit(EngineEvent::Kind::warning, "weights.decoded", "Tensors stored as " + types + " are computed as f16: already lossy, and larger than in the file.");
}

void Session::Impl::adopt() {
  Weights prepared;
  std::optional<Error> failure;
  {
    std::scoped_lock lock(mutex);
    const bool ready = job && job->finished();
    if (job && !ready) prepared = job->takePart();
    if (!requested && !ready && !prepared) return;
    if (requested) current = std::move(*std::exchange(requested, std::nullopt));
    if (ready) {
      prepared = job->set();
      failure = job->error();
      job.reset();
    }
    if (prepared) newest = prepared;
  }
  apply(prepared, failure);
  if (failure && failure->code != ErrorCode::cancelled && !weights->partOf.empty() && current.cause != kFallback) takeLayersBack();
}

// Some layers are new and the others will not be: back to what all of them were, once, unless something newer is asked for.
void Session::Impl::takeLayersBack() {
  Request before = makeRequest(effective.get()->config, kFallback);
  std::scoped_lock lock(mutex);
  if (requested || job) return;
  job = core->converter.submit(before.weights);
  requested = std::move(before);
}

void Session::Impl::apply(const Weights& prepared, const std::optional<Error>& failure) {
  Effective next = current.wanted;
  const Backend* const made = backend.get();
  takeWeights(prepared, failure, next);
  sparsity.configure(weights->shape(), *weights, next.config, ledger);
  takeSharing(next);
  takeActivations(next);
  takeTwins(next);
  const ModelConfig& held = backendOptions.shape ? *backendOptions.shape : model;  // heads that wait to be narrowed are packed when they are
  if (const KvFormat wanted = KvFormat::of(next.config, model.layers); wanted.quantizes() && (cannotSeal(held) || (wanted.rotateKeys && cannotRotate(held))))
    holdBack(next, effective.get()->config, [](std::string_view knob) { return knob == "kv.k_bits" || knob == "kv.v_bits" || knob == "kv.layers" || knob == "kv.rotate"; },
             "the heads in the cache have " + std::to_string(held.headDim) + " values, which this format does not pack: recompute the cache.");
  takeCacheFormat(next.config);
  criticalBudget = next.config.text("prefill.method") == "critiprefill" ? static_cast<int>(next.config.integer("prefill.budget")) : 0;
  segment = static_cast<int>(next.config.integer("prefill.segment"));
  const EvictionSettings eviction = EvictionSettings::of(next.config);
  if (eviction != evictor.settings() || evictor.observes() != cache->observed()) {
    const std::string before = evictor.settings().policy;
    evictor.configure(eviction, *cache);
    if (eviction.policy != before) warnOfSelection();
    if (fed > 0 && evictor.addsUp() && eviction.policy != before)
      emit(EngineEvent::Kind::warning, "kv.scores_begin",
           "Attention scores for " + eviction.policy + " are counted from token " + std::to_string(fed) + " on: recompute the cache for those of the whole text.");
  }
  beginEpoch(next);
  refreshCosts();
  updateMixed();
  if (backend.get() != made) reserveScratch();
}

namespace {

// What the layer would attend to and the cache never kept.
bool lacks(const KvCache& cache, const LayerSharing& share, int layer) {
  if (share.source != layer) return false;
  return !cache.holds(layer) || (share.attnSource == layer && !cache.ownsKeys(layer));
}

}  // namespace

// Weights that were fitted to a way of sharing attention come with it, and take it with them.
std::string Session::Impl::whyNotYet(const WeightSet& set, const Config& next) const {
  if (set.attentionKey != weights->attentionKey) return "the cache holds keys and values of other heads than the new weights have: recompute the cache.";
  std::string layers;
  const bool fitted = !set.sharing.empty() || !weights->sharing.empty();
  const std::vector<LayerSharing> sharing = sharingWithout(sharingOf(model, fitted ? next : effective.get()->config), set.parts);
  for (int layer = 0; layer < model.layers; ++layer) {
    const auto at = static_cast<size_t>(layer);
    // A dropped leader's heir has kept no keys, a dropped owner's nothing.
    if (set.parts[at].attention && lacks(*cache, sharing[at], layer)) layers += (layers.empty() ? "" : ", ") + std::to_string(layer);
  }
  return layers.empty() ? "" : "layers " + layers + " kept no keys and values while the cache was written: recompute the cache.";
}

void Session::Impl::fitBackend(const WeightSet& set) {
  const ModelConfig& shape = backendOptions.shape ? *backendOptions.shape : model;
  if (set.shape() == shape) return;
  BackendOptions fitting = backendOptions;
  fitting.shape = set.narrowShape;
  std::unique_ptr<Backend> made = core->device->makeBackend(ledger, pool, fitting);
  cache = made->makeCache(context);  // before its backend goes the old one does
  backend.swap(made);
  if (rebuilding) replaced = std::move(made);
  backendOptions = fitting;
  evictor.configure(evictor.settings(), *cache);
}

namespace {

std::string layersDone(const WeightSet& set) { return std::to_string(set.newLayers) + " of " + std::to_string(set.layers.size()) + " layers"; }

std::string partsGone(const std::vector<LayerParts>& parts) {
  std::string text;
  for (size_t layer = 0; layer < parts.size(); ++layer) {
    if (parts[layer] == LayerParts()) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(layer) + (parts[layer].attention ? " (feed-forward)" : parts[layer].ffn ? " (attention)" : "");
  }
  return text;
}

}  // namespace

void Session::Impl::takeWeights(const Weights& prepared, const std::optional<Error>& failure, Effective& next) {
  if (prepared) waiting = prepared;
  if (waiting && waiting->key != current.weights.key && waiting->partOf != current.weights.key) waiting = nullptr;  // asked for before something else was
  const std::string reason = waiting && fed > 0 ? whyNotYet(*waiting, next.config) : "";
  if (waiting && reason.empty()) {
    fitBackend(*waiting);
    fitCache();
    weights = std::exchange(waiting, nullptr);
    current.weightsFailure.clear();
    const std::string gone = partsGone(weights->parts);
    if (!weights->partOf.empty())
      emit(EngineEvent::Kind::published, "weights.part", "New weights: the first " + layersDone(*weights) + ".");
    else
      emit(EngineEvent::Kind::published, "weights.published",
           "New weights: " + std::to_string((*weights).versions.size()) + " tensors" + (gone.empty() ? "." : ", without layers " + gone + "."));
    if (const std::string shorter = shortGroups(*weights); weights->partOf.empty() && !shorter.empty()) emit(EngineEvent::Kind::warning, "weights.group", shorter);
  } else if (waiting) {
    current.weightsFailure = reason;
  }
  if (failure && failure->code != ErrorCode::cancelled) {
    current.weightsFailure = failure->message;
    emit(EngineEvent::Kind::fallback, "weights.failed", failure->message);
  }
  if (current.weights.key == weights->key) {
    for (const Adjustment& adjustment : weights->adjustments) {
      next.adjustments.push_back(adjustment);
      next.config = next.config.with(adjustment.knob, adjustment.effective);
    }
    return;
  }
  const bool fitted = current.weights.sharing || !weights->sharing.empty();
  holdBack(next, effective.get()->config, [&](std::string_view knob) { return isPreparedKnob(knob) || (fitted && isSharingKnob(knob)); },
           current.weightsFailure.empty() && weights->partOf == current.weights.key ? "the first " + layersDone(*weights) + " have it, the others follow." : current.weightsFailure);
}

namespace {

// Whether all heads of a layer hold the same tokens under it, so that a row of attention fits the values of any.
bool evictsAlike(const EvictionSettings& settings) {
  return settings.policy == "full" || (kvPolicy(settings.policy).keepsRuns && settings.allocation != KvAllocation::adaptive);
}

}  // namespace

// The sharing that was measured, where it is the one that is wanted; heads of other layers where heads hold the same tokens.
std::vector<LayerSharing> Session::Impl::sharingFor(Effective& next) const {
  std::vector<LayerSharing> wanted = sharingWithout(sharingOf(model, next.config), weights->parts);
  const auto leader = [](const LayerSharing& a, const LayerSharing& b) { return a.attnSource == b.attnSource && a.source == b.source; };
  if (!std::ranges::equal(wanted, weights->sharing, leader)) return wanted;
  const bool alike = evictsAlike(EvictionSettings::of(next.config)) && (!evictedUnder || evictsAlike(*evictedUnder));
  if (alike) {
    for (size_t layer = 0; layer < wanted.size(); ++layer) wanted[layer].heads = weights->sharing[layer].heads;
    return wanted;
  }
  if (next.config.boolean("share.align")) {
    next.adjustments.push_back({"share.align", next.requested.get("share.align"), false,
                                "the heads of a layer have evicted different tokens, so that attention of one does not fit the values of another: recompute the cache."});
    next.config = next.config.with("share.align", false);
  }
  return wanted;
}

namespace {

// Which layers are dropped is measured after it was asked who shares: of a group one layer may be left.
void sayThatNoneShares(const std::vector<LayerSharing>& asked, const std::vector<LayerSharing>& left, Effective& next) {
  const auto shares = [](const std::vector<LayerSharing>& sharing) { return sharesAttention(sharing) || sharesCache(sharing); };
  if (!shares(asked) || shares(left)) return;
  const bool spans = !next.config.text("share.spans").empty();
  const char* const knob = spans ? "share.spans" : "share.block";
  const KnobValue none = spans ? KnobValue(std::string()) : KnobValue(int64_t{1});
  next.adjustments.push_back({knob, next.requested.get(knob), none, "the layers that prune.layers drops leave no two that share."});
  next.config = next.config.with(knob, none);
  if (next.config.text("share.method") != "spans") return;
  next.adjustments.push_back({"share.method", next.requested.get("share.method"), std::string("none"), "share.spans names no layers that are left."});
  next.config = next.config.with("share.method", std::string("none"));
}

}  // namespace

void Session::Impl::takeSharing(Effective& next) {
  std::vector<LayerSharing> wanted = sharingFor(next);
  std::string missing;
  for (int layer = 0; layer < model.layers; ++layer) {
    const auto at = static_cast<size_t>(layer);
    if (weights->parts[at].attention && lacks(*cache, wanted[at], layer)) missing += (missing.empty() ? "" : ", ") + std::to_string(layer);
  }
  if (!missing.empty() && fed > 0) {
    holdBack(next, effective.get()->config, isSharingKnob, "layers " + missing + " kept no keys or values of their own while they shared: recompute the cache.");
    wanted = sharingFor(next);
  }
  sayThatNoneShares(sharingOf(model, next.config), wanted, next);
  const bool shortcuts = weights->sliceWidth > 0;
  if (wanted == plan.sharing && plan.parts == weights->parts && plan.shortcuts == shortcuts) return;
  plan = buildPlan(model, wanted, weights->parts, shortcuts);
  if (fed == 0) cache->clear();
  fitCache();
  if (const int64_t left = unifyGroups(*cache, plan.sharing); left > 0)
    emit(EngineEvent::Kind::evicted, "share.unified",
         std::to_string(left) + " slots left the cache: layers that share attention keep only what all of them still hold.");
  backend->releaseProbabilities();
  opTimes.clear();
}

void Session::Impl::takeActivations(Effective& next) {
  if (next.config.text("compute.activations") == "int8" && !weights->takesInt8) {
    next.adjustments.push_back({"compute.activations", next.requested.get("compute.activations"), std::string("auto"),
                                "int8 activations need weights that multiply with integers; these are plain or 8-bit floats."});
    next.config = next.config.with("compute.activations", std::string("auto"));
  }
  activations = activationsOf(next.config.text("compute.activations"));
}

void Session::Impl::takeTwins(Effective& next) {
  if (next.config.text("compute.prefill_twin") == "on") {
    std::string reason = backend->whyNoTwins();
    if (reason.empty() && !weights->anyPacked && activations != Activations::fp8) reason = "twins are of quantized weights; these are plain.";
    if (reason.empty() && (activations == Activations::f32 || activations == Activations::int8))
      reason = "activations in f32 or int8 multiply packed weights as they are stored.";
    if (!reason.empty()) {
      next.adjustments.push_back({"compute.prefill_twin", next.requested.get("compute.prefill_twin"), std::string("off"), reason});
      next.config = next.config.with("compute.prefill_twin", std::string("off"));
    }
  }
  backend->keepTwins(*weights, prefillTwinOf(next.config.text("compute.prefill_twin")));
}

void Session::Impl::takeCacheFormat(const Config& config) {
  const KvFormat wanted = KvFormat::of(config, model.layers);
  if (wanted == cache->format()) return;
  const int64_t before = cache->allocatedBytes();
  const bool aligned = cache->format().aligned > 0;
  cache->setFormat(wanted, pool);
  if (!aligned) warnOfPlanes();
  const int64_t after = cache->allocatedBytes();
  if (before == after) return;
  returnFreedMemory();
  emit(EngineEvent::Kind::published, "kv.reformatted", std::string("The pages of the cache were ") + (wanted.quantizes() ? "quantized again: " : "laid out anew: ") + std::to_string(before) + " → " + std::to_string(after) + " bytes.");
}

void Session::Impl::beginEpoch(const Effective& next) {
  const std::shared_ptr<const Effective> before = effective.get();
  std::vector<Adjustment> changes;
  for (const auto& [name, value] : next.config.values()) {
    if (before->config.get(name) == value) continue;
    std::string reason;
    for (const Adjustment& adjustment : next.adjustments)
      if (adjustment.knob == name) reason = adjustment.reason;
    changes.push_back({name, before->config.get(name), value, reason});
  }
  effective.set(std::make_shared<Effective>(next));
  if (changes.empty()) return;
  std::string text;
  for (const Adjustment& change : changes)
    text += (text.empty() ? "" : ", ") + change.knob + " " + toText(change.requested) + " → " + toText(change.effective);
  emit(EngineEvent::Kind::epoch, changes.front().knob, text);
  events.back().cause = current.cause;
  events.back().changes = std::move(changes);
}

void Session::Impl::emit(EngineEvent::Kind kind, std::string code, std::string text) {
  EngineEvent event;
  event.kind = kind;
  event.token = fed;
  event.code = std::move(code);
  event.text = std::move(text);
  events.push_back(std::move(event));
}

// Results mix when the cache holds what the present configuration would not have written, or lacks what it would have kept.
void Session::Impl::updateMixed() {
  bool now = false;
  if (fed > 0) {
    now = writtenMixed || writtenUnder != weights->key || !cache->asFormatted();
    if (evictedUnder) {
      const EvictionSettings& settings = evictor.settings();
      now |= settings.policy != evictedUnder->policy || settings.allocation != evictedUnder->allocation ||
             settings.positionsInCache != evictedUnder->positionsInCache || settings.promptsWhole != evictedUnder->promptsWhole ||
             settings.sinks > evictedUnder->sinks || settings.recent > evictedUnder->recent || evictor.wouldHold(*cache, plan.sharing, fed);
    }
  }
  if (now && !mixed.exchange(now))
    emit(EngineEvent::Kind::warning, "cache.mixed", "The cache is kept as another configuration wrote it: results mix until it is recomputed.");
  mixed.store(now, std::memory_order_relaxed);
}

Result<Session::Impl::Weights> Session::Impl::buildNow(const WeightTarget& target, const Progress& progress) {
  return core->store.build(target, pool, core->measurements(), progress);
}

// The background job is overtaken on this thread, at its priority; tensors it has finished are reused.
Status Session::Impl::finishPending(const Progress& progress) {
  for (;;) {
    adopt();
    std::shared_ptr<WeightJob> overtaken;
    {
      std::scoped_lock lock(mutex);
      if (!job) return Done{};
      overtaken = job;
    }
    overtaken->cancel();
    const auto built = buildNow(overtaken->target, progress);
    if (!built && built.error().code == ErrorCode::cancelled) {
      std::scoped_lock lock(mutex);
      if (job == overtaken) job = core->converter.submit(overtaken->target);
      return built.error();
    }
    {
      std::scoped_lock lock(mutex);
      if (job != overtaken) continue;  // a newer request came
      job.reset();
      if (built) newest = *built;
    }
    apply(built ? *built : nullptr, built ? std::nullopt : std::optional(built.error()));
    if (!built) return built.error();
  }
}

Result<std::unique_ptr<Session>> EngineCore::createSession(const Config& config, const SessionOptions& wanted, const Progress& progress) {
  const auto context = contextFor(wanted);
  if (!context) return context.error();
  try {
    if (Status room = fits(config, wanted, *context); !room) return room.error();
    auto impl = std::make_unique<Session::Impl>(shared_from_this(), wanted, *context);
    Session::Impl::Request first = impl->makeRequest(config, "user");
    auto weights = impl->buildNow(first.weights, progress);
    if (!weights) return weights.error();
    impl->start(std::move(first), *weights);
    impl->reserveScratch();
    return std::unique_ptr<Session>(new Session(std::move(impl)));
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory for a session with a context of " + std::to_string(*context) + " tokens.", "Choose a smaller context."};
  }
}

// ---- the public face ----

void Session::request(const Config& config, const std::string& cause) { impl_->request(config, cause); }
void Session::adopt() {
  const Status adopted = Impl::guarded(impl_->fed, [&]() -> Status {
    impl_->adopt();
    return Done{};
  });
  if (!adopted) impl_->emit(EngineEvent::Kind::warning, "device.failed", adopted.error().message);
}
std::shared_ptr<const Effective> Session::effective() const { return impl_->effective.get(); }

bool Session::pending() const {
  std::scoped_lock lock(impl_->mutex);
  return impl_->job != nullptr;
}

double Session::pendingFraction() const {
  std::scoped_lock lock(impl_->mutex);
  return impl_->job ? impl_->job->fraction() : 1.0;
}

Status Session::finishPending(const Progress& progress) {
  return impl_->onOwnThread([&] { return Impl::guarded(impl_->fed, [&] { return impl_->finishPending(progress); }); });
}

bool Session::cacheMixed() const { return impl_->mixed.load(std::memory_order_relaxed); }
double Session::rebuildCostMs() const {
  return impl_->prefillMsPerToken.load() * static_cast<double>(impl_->fedPublished.load(std::memory_order_relaxed));
}

}  // namespace winnow
