// SPDX-License-Identifier: GPL-3.0-or-later
// Feeding tokens: prefill, step, eviction, recomputing the cache.
#include <algorithm>
#include <chrono>
#include <new>
#include <tuple>

#include "engine/core/check.h"
#include "engine/run/logits_hash.h"
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
      cpuContext(pool, core->isa),
      forward(ledger, model, cpuContext, std::clamp(sessionOptions.maxBatch, 1, contextTokens), sessionOptions.probabilityBytes),
      cache(ledger, model, contextTokens) {
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

Status Session::Impl::feed(std::span<const int32_t> batch, bool wantLogits, const LogitsSink* sink, int sinkFirst) {
  if (fed == 0) {
    writtenUnder = weights->key;
    writtenMixed = false;
  } else if (weights->key != writtenUnder) {
    writtenMixed = true;
  }
  cache.mark();
  try {
    cache.reserve(static_cast<int>(batch.size()));
    forward.run({plan, *weights, cache, batch, fed, activations, wantLogits, sink, sinkFirst, nullptr, observing ? &opTimes : nullptr});
  } catch (const std::bad_alloc&) {
    cache.rollback();
    return Error{ErrorCode::resources, "Not enough memory for the cache at token " + std::to_string(fed) + ".",
                 "Choose a smaller context or evict with kv.policy."};
  } catch (...) {
    cache.rollback();
    throw;
  }
  if (!rebuilding) tokens.insert(tokens.end(), batch.begin(), batch.end());
  fed += static_cast<int64_t>(batch.size());
  fedPublished.store(fed, std::memory_order_relaxed);
  if (evictor.due(fed)) evict();
  updateMixed();
  return Done{};
}

Status Session::Impl::foldLogits() {
  const LogitsDigest digest = digestLogits(forward.logits(), hash);
  hash = digest.hash;
  if (digest.finite) return Done{};
  return Error{ErrorCode::failed, "The logits at token " + std::to_string(fed) + " are not finite (NaN or infinity).",
               "The model's weights may be damaged, or too large for 16-bit activations: try compute.activations=f32."};
}

Status Session::Impl::prefill(std::span<const int32_t> wanted, const Progress& progress, const LogitsSink* sink) {
  if (wanted.empty()) return Done{};
  if (Status fits = checkTokens(wanted); !fits) return fits;
  const auto start = Clock::now();
  const size_t total = wanted.size();
  Status result = Done{};
  for (size_t at = 0; at < total && result.ok();) {
    adopt();
    if (progress.stopped()) {
      result = Error{ErrorCode::cancelled, "The prompt was cancelled after " + std::to_string(at) + " of " + std::to_string(total) + " tokens.", ""};
      break;
    }
    const size_t count = std::min(total - at, static_cast<size_t>(forward.batch()));
    result = feed(wanted.subspan(at, count), at + count == total, sink, static_cast<int>(at));
    at += count;
    progress(static_cast<double>(at) / static_cast<double>(total), "prompt");
  }
  forward.releaseProbabilities();
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
  const int64_t evicted = evictor.apply(cache, plan.sharing, fed, pool);
  if (evicted == 0) return;
  evictedUnder = evictor.settings();
  const std::string text = std::to_string(evicted / (int64_t{cache.layers()} * cache.kvHeads())) + " tokens left the cache (" + evictor.settings().policy + ", " +
                           std::to_string(evictor.kept(fed)) + " stay).";
  // A run of evictions that nobody has read yet is one event, at its last token.
  if (!events.empty() && events.back().kind == EngineEvent::Kind::evicted) events.pop_back();
  emit(EngineEvent::Kind::evicted, "kv.evicted", text);
}

void Session::Impl::clear() {
  cache.clear();
  for (int layer = 0; layer < model.layers; ++layer)
    if (plan.follower(layer)) cache.dropKeys(layer);
  evictor.restart();
  forward.releaseProbabilities();
  fed = 0;
  fedPublished.store(0);
  writtenMixed = false;
  evictedUnder.reset();
  updateMixed();
}

// The cache grows anew beside the old one, which comes back when this is cancelled.
Status Session::Impl::rebuild(const Progress& progress) {
  KvCache old(ledger, model, context);
  old.swap(cache);
  const Plan oldPlan = plan;
  const Effective oldEffective = *effective.get();
  const int64_t oldFed = fed;
  const auto oldWritten = std::tuple(writtenUnder, writtenMixed, evictedUnder);
  evictor.configure(evictor.settings(), cache);
  clear();
  apply(nullptr, std::nullopt);  // sharing that waited for this
  rebuilding = true;
  const Status result = prefill(tokens, progress, nullptr);
  rebuilding = false;
  if (result) {
    emit(EngineEvent::Kind::published, "cache.rebuilt", "The cache was recomputed from " + std::to_string(fed) + " tokens.");
    return result;
  }
  old.swap(cache);
  plan = oldPlan;
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

Status Session::prefill(std::span<const int32_t> tokens, const Progress& progress, const LogitsSink& onLogits) {
  return impl_->onOwnThread([&] { return impl_->prefill(tokens, progress, onLogits ? &onLogits : nullptr); });
}

Status Session::step(int32_t token) {
  return impl_->onOwnThread([&]() -> Status {
    impl_->adopt();
    const std::span<const int32_t> one(&token, 1);
    if (Status fits = impl_->checkTokens(one); !fits) return fits;
    if (Status fed = impl_->feed(one, true, nullptr, 0); !fed) return fed;
    return impl_->foldLogits();
  });
}

void Session::reset() {
  impl_->tokens.clear();
  impl_->hash = 0;
  impl_->clear();
  impl_->apply(nullptr, std::nullopt);  // sharing that waited for an empty cache
}

int64_t Session::rewind(int64_t tokens) {
  Impl& in = *impl_;
  in.adopt();
  if (tokens <= 0 || in.evictor.evicts() || in.evictedUnder || in.cache.tracksColumnSums() || in.writtenMixed || in.writtenUnder != in.weights->key) {
    reset();
    return 0;
  }
  if (tokens >= in.fed) return in.fed;
  in.cache.truncate(static_cast<int>(tokens));
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
    impl_->updateMixed();
    return true;
  });
}

Status Session::rebuildCache(const Progress& progress) {
  return impl_->onOwnThread([&] { return impl_->rebuild(progress); });
}

std::span<const float> Session::logits() const { return impl_->forward.logits(); }
int64_t Session::position() const { return impl_->fed; }
const std::vector<int32_t>& Session::tokens() const { return impl_->tokens; }
int Session::context() const { return impl_->context; }
int Session::vocab() const { return impl_->model.vocab; }
int64_t Session::parameters() const { return impl_->model.parameters; }

}  // namespace winnow
