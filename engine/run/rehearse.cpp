// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/rehearse.h"

#include <algorithm>

#include "engine/cache/evictor.h"
#include "engine/core/check.h"

namespace winnow {

Rehearsal rehearse(Backend& backend, Ledger& ledger, const RehearsedSession& session, int tokens) {
  CHECK(ledger.planning() && tokens <= session.context, tokens, session.context);
  const int batch = backend.batch();
  backend.releaseProbabilities();
  const std::unique_ptr<KvCache> cache = backend.makeCache(session.context);
  Evictor evictor;
  evictor.configure(EvictionSettings::of(session.config), *cache);
  ThreadPool alone(1);
  cache->setFormat(KvFormat::of(session.config, session.model.layers), alone);
  for (int layer = 0; layer < session.model.layers; ++layer) {
    if (session.plan.follower(layer)) cache->dropKeys(layer);
    if (!session.plan.caches(layer)) cache->dropLayer(layer);
  }
  const bool critical = session.config.text("prefill.method") == "critiprefill";
  const int budget = critical ? static_cast<int>(session.config.integer("prefill.budget")) : 0;
  const Activations activations = activationsOf(session.config.text("compute.activations"));
  backend.keepTwins(session.weights, prefillTwinOf(session.config.text("compute.prefill_twin")));
  const std::vector<int32_t> ids(static_cast<size_t>(batch));
  Rehearsal out;
  const int64_t room = session.promptCacheBytes;
  const bool waits = room == 0 || promptBytes(*cache, evictor, session.plan.sharing, tokens - 1, batch) <= room;
  for (int fed = 0; fed < tokens;) {
    const int most = critical ? std::min(batch, static_cast<int>(session.config.integer("prefill.segment"))) : batch;
    const int count = fed == tokens - 1 ? 1 : std::min(most, tokens - 1 - fed);
    if (count == 1) backend.releaseProbabilities();
    cache->reserve(count);
    const SequenceRows rows{cache.get(), fed, count};
    backend.run({.plan = session.plan, .weights = session.weights, .sequences = {&rows, 1}, .tokens = std::span(ids).first(static_cast<size_t>(count)),
                 .activations = activations, .criticalBudget = budget});
    fed += count;
    const Fed as = fed < tokens - 1 ? Fed::promptPart : fed < tokens ? Fed::promptEnd : Fed::token;
    constexpr auto kKv = static_cast<size_t>(MemoryTag::kv);
    out.promptCache = std::max(out.promptCache, ledger.snapshot()[kKv] + backend.memory()[kKv]);
    if (evictor.due(fed, as)) {
      if (const int window = evictor.window(fed); window > 0) backend.observe(*cache, window);
      for (int layer = 0; layer < session.model.layers; ++layer)
        if (!session.plan.sharing[static_cast<size_t>(layer)].keepsAll) cache->keepForPlan(layer, static_cast<int>(evictor.kept(fed)));
      evictor.ran(fed);
    }
    if (as != Fed::promptPart || !waits) cache->seal(alone);
  }
  out.all = ledger.snapshot();
  out.onDevice = backend.memory();
  for (size_t tag = 0; tag < out.all.size(); ++tag) out.all[tag] += out.onDevice[tag];
  return out;
}

void rehearseBatch(Backend& backend, Ledger& ledger, const RehearsedSession& session) {
  rehearse(backend, ledger, session, std::min(backend.batch() + 1, session.context));
}

}  // namespace winnow
