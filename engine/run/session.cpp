// SPDX-License-Identifier: GPL-3.0-or-later
// Feeding tokens: prefill, step, eviction, recomputing the cache.
#include <algorithm>
#include <chrono>
#include <tuple>

#include "engine/core/check.h"
#include "engine/run/logits_hash.h"
#include "engine/run/rehearse.h"
#include "engine/run/session_impl.h"

namespace winnow {

using Clock = std::chrono::steady_clock;

Session::Impl::Impl(std::shared_ptr<EngineCore> engineCore, const SessionOptions& sessionOptions, int contextTokens)
    : core(std::move(engineCore)),
      options(sessionOptions),
      context(contextTokens),
      model(core->model->config()),
      ledger(false, &core->ledger),
      pool(sessionOptions.threads > 0 ? sessionOptions.threads : core->threads),
      backendOptions(core->backendOptions(sessionOptions, contextTokens)),
      backend(core->device->makeBackend(ledger, pool, backendOptions)),
      cache(backend->makeCache(contextTokens)) {
  if (!options.background) return;
  background.emplace(kBackgroundNice);
  pool.run([](int thread, int) {
    if (thread > 0) lowerPriority(kBackgroundNice);
  });
}

Session::Impl::~Impl() {
  std::scoped_lock lock(mutex);
  if (job) job->cancel();
}

void Session::Impl::reserveScratch() {
  Ledger counted(true);
  const auto planned = core->device->makeBackend(counted, pool, backendOptions);
  rehearseBatch(*planned, counted, {model, plan, *weights, effective.get()->config, context});
  backend->reserveLike(*planned);
}

Status Session::Impl::checkTokens(std::span<const int32_t> wanted) const {
  for (const int32_t id : wanted)
    if (id < 0 || id >= model.vocab)
      return Error{ErrorCode::badInput, "Token id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(model.vocab) + " tokens.", ""};
  if (fed + static_cast<int64_t>(wanted.size()) > context) {
    const std::string have = fed > 0 ? std::to_string(fed) + " tokens are in the context and " : "";
    return Error{ErrorCode::badInput, have + std::to_string(wanted.size()) + " tokens were to be fed, but the context holds " + std::to_string(context) + ".",
                 "Shorten the text or choose a larger context."};
  }
  return Done{};
}

Status Session::Impl::feed(std::span<Impl* const> all, std::span<const int32_t> batch, const Feeding& feeding) {
  Impl& first = *all.front();
  const size_t each = batch.size() / all.size();
  std::vector<SequenceRows> rows;
  for (Impl* one : all) {
    rows.push_back({one->cache.get(), one->fed, static_cast<int>(each)});
    one->cache->mark();
  }
  return guarded(first.fed, [&]() -> Status {
    try {
      for (Impl* one : all) one->cache->reserve(static_cast<int>(each));
      if (feeding.decodes) leaveOut(all);
      first.backend->run({first.plan, *first.weights, rows, batch, first.activations, feeding.as != Fed::promptPart, feeding.sink, feeding.sinkFirst, feeding.sinkFrom,
                          feeding.decodes ? nullptr : first.sparsity.prompt(), first.observing ? &first.opTimes : nullptr, first.attention, feeding.criticalBudget});
    } catch (...) {
      for (Impl* one : all) one->cache->rollback();
      throw;
    }
    for (size_t i = 0; i < all.size(); ++i) all[i]->took(batch.subspan(i * each, each), feeding.as);
    return Done{};
  });
}

void Session::Impl::leaveOut(std::span<Impl* const> all) {
  auto* backend = dynamic_cast<SparseBackend*>(all.front()->backend.get());
  std::vector<const SparseStep*> steps;
  for (Impl* one : all) {
    std::string why;
    steps.push_back(backend ? one->sparsity.step(&why) : nullptr);
    if (!why.empty()) one->emit(EngineEvent::Kind::warning, "activation.whole", why);
  }
  if (backend) backend->leaveOut(steps);
}

// Tokens whose probabilities a tap can be told of within the memory set aside for them.
size_t Session::Impl::tappedRows() const {
  const int64_t row = int64_t{model.heads} * context * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(std::max<int64_t>(options.probabilityBytes / row, 1));
}

void Session::Impl::took(std::span<const int32_t> fedNow, Fed as) {
  if (fed == 0) {
    writtenUnder = weights->key;
    writtenMixed = false;
  } else if (weights->key != writtenUnder) {
    writtenMixed = true;
  }
  if (!rebuilding) tokens.insert(tokens.end(), fedNow.begin(), fedNow.end());
  fed += static_cast<int64_t>(fedNow.size());
  fedPublished.store(fed, std::memory_order_relaxed);
  const bool waits = as == Fed::promptPart && promptHeld;
  cache->holdSealing(waits);
  if (evictor.due(fed, as)) evict();
  if (!waits) cache->seal(pool);
  updateMixed();
}

// Rows of one matrix product have its weights, its way of rounding and the plan around it in common; caches are each one's own.
Status Session::Impl::canStepWith(const Impl& first) const {
  if (core == first.core && weights->key == first.weights->key && activations == first.activations &&
      plan.sharing == first.plan.sharing && plan.parts == first.plan.parts)
    return Done{};
  return Error{ErrorCode::usage, "Sequences that are decoded together need the same weights, activations and attention sharing.",
               "Give them one configuration."};
}

Status Session::Impl::stepAll(std::span<Impl* const> all, std::span<const int32_t> next) {
  Backend& backend = *all.front()->backend;
  if (all.size() > static_cast<size_t>(backend.batch()))
    return Error{ErrorCode::usage, std::to_string(all.size()) + " sequences do not fit a batch of " + std::to_string(backend.batch()) + ".", ""};
  for (size_t i = 0; i < all.size(); ++i) {
    all[i]->adopt();
    if (Status fits = all[i]->checkTokens(next.subspan(i, 1)); !fits) return fits;
    if (Status same = all[i]->canStepWith(*all.front()); !same) return same;
  }
  const LogitsSink deal = [&](int first, int count, const float* logits) {
    const int vocab = all.front()->model.vocab;
    for (int i = 0; i < count; ++i) all[static_cast<size_t>(first + i)]->backend->setLogits(logits + int64_t{i} * vocab);
  };
  if (Status fed = feed(all, next, {.decodes = true, .sink = all.size() > 1 ? &deal : nullptr}); !fed) return fed;
  Status finite = Done{};
  for (Impl* one : all)
    if (Status folded = one->foldLogits(); !folded && finite) finite = folded;
  return finite;
}

Status Session::Impl::foldLogits() {
  const LogitsDigest digest = digestLogits(backend->logits(), hash);
  hash = digest.hash;
  if (digest.finite) return Done{};
  if (Status sound = core->model->validateValues(); !sound) return sound;
  return Error{ErrorCode::failed, "The logits at token " + std::to_string(fed) + " are not finite (NaN or infinity).",
               "The model's weights may be damaged, or too large for 16-bit activations: try compute.activations=f32."};
}

void Session::Impl::holdPrompt(int64_t count) {
  const std::optional<DeviceMemory> memory = core->device->memory();
  const int64_t free = memory ? memory->freeBytes + memory->spareBytes : availableMemory();
  const int64_t most = std::max<int64_t>(options.promptCacheBytes > 0 ? std::min(options.promptCacheBytes, free) : free, 1);
  const int64_t needed = promptBytes(*cache, evictor, plan.sharing, count, backend->batch());
  promptHeld = needed <= most;
  if (promptHeld || count <= backend->batch()) return;
  emit(EngineEvent::Kind::fallback, "kv.sealed_early",
       "The keys and values of a prompt of " + std::to_string(count) + " tokens take " + std::to_string(needed) + " bytes in 16 bits, and there are " +
           std::to_string(most) + " for them: they are quantized as they come, and what follows in the prompt attends to that.");
}

Status Session::Impl::prefill(std::span<const int32_t> wanted, const Progress& progress, const LogitsSink* sink, size_t sinkFrom) {
  if (wanted.empty()) return Done{};
  if (Status fits = checkTokens(wanted); !fits) return fits;
  const auto start = Clock::now();
  const size_t total = wanted.size();
  Status result = Done{};
  for (size_t at = 0; at < total && result.ok();) {
    adopt();
    if (at == 0) holdPrompt(static_cast<int64_t>(total));
    if (progress.stopped()) {
      result = Error{ErrorCode::cancelled, "The prompt was cancelled after " + std::to_string(at) + " of " + std::to_string(total) + " tokens.", ""};
      break;
    }
    size_t count = std::min(total - at, static_cast<size_t>(backend->batch()));
    if (attention) count = std::min(count, tappedRows());
    if (criticalBudget > 0) count = std::min(count, static_cast<size_t>(segment));
    const bool ends = at + count == total;  // the last segment attends to everything: what is asked at the end is asked of the whole text
    Impl* const self = this;
    const size_t silent = std::min(count, sinkFrom - std::min(sinkFrom, at));  // tokens of this batch before those the sink wants
    const Fed as = !ends ? Fed::promptPart : total > 1 ? Fed::promptEnd : Fed::token;
    result = feed({&self, 1}, wanted.subspan(at, count),
                  {as, false, silent < count ? sink : nullptr, static_cast<int>(at), static_cast<int>(silent), ends ? 0 : criticalBudget});
    at += count;
    progress(static_cast<double>(at) / static_cast<double>(total), "prompt");
  }
  if (!result) {  // what was read of it stays
    cache->holdSealing(false);
    cache->seal(pool);
  }
  backend->releaseProbabilities();
  if (const std::string note = backend->takeTwinNote(); !note.empty() && effective.get()->config.text("compute.prefill_twin") == "on")
    emit(EngineEvent::Kind::fallback, "compute.prefill_twin", "Not all twins are kept: " + note + ".");
  if (!result) return result;
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  if (!sink) {
    const double perToken = ms / static_cast<double>(total), before = prefillMsPerToken.load();
    // Short prompts say little: they weigh in by their length.
    const double share = before == 0 ? 1.0 : std::min(1.0, static_cast<double>(total) / 256.0);
    prefillMsPerToken.store(before + share * (perToken - before));
  }
  return rebuilding ? Status(Done{}) : foldLogits();
}

void Session::Impl::evict() {
  constexpr int64_t kWorthReturning = int64_t{4} << 20;  // a narrower budget, not the trickle of every interval
  const int64_t before = cache->allocatedBytes();
  if (const int window = evictor.window(fed); window > 0) backend->observe(*cache, window);
  const int64_t evicted = evictor.apply(*cache, plan.sharing, fed, pool);
  if (evicted == 0) return;
  if (before - cache->allocatedBytes() >= kWorthReturning) returnFreedMemory();
  evictedUnder = evictor.settings();
  const std::string text = std::to_string(evicted / (int64_t{cache->heldLayers()} * cache->kvHeads())) + " tokens left the cache (" + evictor.settings().policy + ", " +
                           std::to_string(evictor.kept(fed)) + " stay).";
  // A run of evictions that nobody has read yet is one event, at its last token.
  const auto unread = [&](std::string_view code) { return !events.empty() && events.back().code == code; };
  const bool regrouped = cache->takeRegrouped() > 0 || unread("kv.regrouped");
  if (unread("kv.regrouped")) events.pop_back();
  if (unread("kv.evicted")) events.pop_back();
  emit(EngineEvent::Kind::evicted, "kv.evicted", text);
  if (regrouped) emit(EngineEvent::Kind::warning, "kv.regrouped", "Eviction took groups of quantized keys apart: some keys that stay were rounded once more.");
}

void Session::Impl::clear() {
  cache->clear();
  fitCache();
  evictor.restart();
  sparsity.restart();
  backend->releaseProbabilities();
  fed = 0;
  fedPublished.store(0);
  writtenMixed = false;
  evictedUnder.reset();
  updateMixed();
}

void Session::Impl::fitCache() {
  for (int layer = 0; layer < model.layers; ++layer) {
    if (!plan.caches(layer) && cache->holds(layer)) cache->dropLayer(layer);
    if (plan.follower(layer) && cache->ownsKeys(layer)) cache->dropKeys(layer);
  }
}

// The cache grows anew beside the old one, which comes back when this is cancelled.
Status Session::Impl::rebuild(const Progress& progress) {
  std::unique_ptr<KvCache> old = std::exchange(cache, backend->makeCache(context));
  const Plan oldPlan = plan;
  const Weights oldWeights = weights;
  const Effective oldEffective = *effective.get();
  const int64_t oldFed = fed;
  const auto oldWritten = std::tuple(writtenUnder, writtenMixed, evictedUnder);
  evictor.configure(evictor.settings(), *cache);
  std::unique_ptr<PromptNeurons> oldPrompt = sparsity.exchange(sparsity.fresh(model, ledger));
  const BackendOptions oldOptions = backendOptions;
  clear();
  rebuilding = true;
  apply(nullptr, std::nullopt);  // sharing, layers and heads that waited for this
  const Status result = prefill(tokens, progress, nullptr);
  rebuilding = false;
  if (result) {
    emit(EngineEvent::Kind::published, "cache.rebuilt", "The cache was recomputed from " + std::to_string(fed) + " tokens.");
    old.reset();  // before its backend
    replaced.reset();
    return result;
  }
  cache = std::move(old);
  if (replaced) backend = std::move(replaced);
  backendOptions = oldOptions;
  sparsity.exchange(std::move(oldPrompt));
  plan = oldPlan;
  if (weights != oldWeights && (weights->parts != oldWeights->parts || weights->sharing != oldWeights->sharing || weights->attentionKey != oldWeights->attentionKey)) waiting = std::exchange(weights, oldWeights);
  effective.set(std::make_shared<Effective>(oldEffective));
  std::tie(writtenUnder, writtenMixed, evictedUnder) = oldWritten;
  fed = oldFed;
  fedPublished.store(fed);
  apply(nullptr, std::nullopt);  // a request may have come in between
  return result;
}

// ---- the public face ----

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

Status Session::prefill(std::span<const int32_t> tokens, const Progress& progress, const LogitsSink& onLogits, size_t logitsFrom) {
  return impl_->onOwnThread([&] {
    return Impl::guarded(impl_->fed, [&] { return impl_->prefill(tokens, progress, onLogits ? &onLogits : nullptr, logitsFrom); });
  });
}

Status Session::step(int32_t token) {
  Session* const self = this;
  return stepTogether({&self, 1}, {&token, 1});
}

Status Session::stepTogether(std::span<Session* const> sessions, std::span<const int32_t> next) {
  CHECK(!sessions.empty() && sessions.size() == next.size(), sessions.size(), next.size());
  std::vector<Impl*> all;
  for (Session* session : sessions) {
    CHECK(std::ranges::find(all, session->impl_.get()) == all.end(), "one sequence twice");
    all.push_back(session->impl_.get());
  }
  Impl& first = *all.front();
  return first.onOwnThread([&] { return Impl::guarded(first.fed, [&] { return Impl::stepAll(all, next); }); });
}

void Session::reset() {
  impl_->tokens.clear();
  impl_->hash = 0;
  impl_->clear();
  impl_->apply(nullptr, std::nullopt);  // sharing and layers that waited for an empty cache
}

int64_t Session::rewind(int64_t tokens) {
  Impl& in = *impl_;
  in.adopt();
  if (tokens <= 0 || in.evictor.evicts() || in.evictedUnder || in.sparsity.prompt() || in.cache->observed().any() || in.writtenMixed || in.writtenUnder != in.weights->key) {
    reset();
    return 0;
  }
  if (tokens >= in.fed) return in.fed;
  in.cache->truncate(static_cast<int>(tokens));
  in.tokens.resize(static_cast<size_t>(tokens));
  in.fed = tokens;
  in.fedPublished.store(tokens);
  in.updateMixed();
  return tokens;
}

void Session::applyPolicyNow() {
  if (!impl_->evictor.evicts() || impl_->fed == 0) return;
  impl_->onOwnThread([&] {
    impl_->evict();
    impl_->cache->seal(impl_->pool);
    impl_->updateMixed();
    return true;
  });
}

Status Session::rebuildCache(const Progress& progress) {
  return impl_->onOwnThread([&] { return Impl::guarded(impl_->fed, [&] { return impl_->rebuild(progress); }); });
}

std::span<const float> Session::logits() const { return impl_->backend->logits(); }
int64_t Session::position() const { return impl_->fed; }
const std::vector<int32_t>& Session::tokens() const { return impl_->tokens; }
int Session::context() const { return impl_->context; }
int Session::vocab() const { return impl_->model.vocab; }
int64_t Session::parameters() const { return impl_->model.parameters; }

}  // namespace winnow
