// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/rehearse.h"

#include <algorithm>

#include "engine/cache/evictor.h"
#include "engine/core/check.h"
#include "engine/run/forward.h"

namespace winnow {

MemoryByTag rehearse(cpu::Context& context, Ledger& ledger, const RehearsedSession& session, int tokens) {
  CHECK(context.planning() && tokens <= session.context, tokens, session.context);
  const int batch = std::clamp(session.options.maxBatch, 1, session.context);
  Forward forward(ledger, session.model, context, batch, session.options.probabilityBytes);
  KvCache cache(ledger, session.model, session.context);
  Evictor evictor;
  evictor.configure(EvictionSettings::of(session.config), cache);
  for (int layer = 0; layer < session.model.layers; ++layer)
    if (session.plan.follower(layer)) cache.dropKeys(layer);
  const Activations activations = activationsOf(session.config.text("compute.activations"));
  const std::vector<int32_t> ids(static_cast<size_t>(batch));
  for (int fed = 0; fed < tokens;) {
    const int count = fed == tokens - 1 ? 1 : std::min(batch, tokens - 1 - fed);
    if (count == 1) forward.releaseProbabilities();
    cache.reserve(count);
    const SequenceRows rows{&cache, fed, count};
    forward.run({session.plan, session.weights, {&rows, 1}, std::span(ids).first(static_cast<size_t>(count)), activations});
    fed += count;
    if (evictor.due(fed)) cache.keepForPlan(static_cast<int>(evictor.kept(fed)));
  }
  return ledger.snapshot();
}

void rehearseBatch(cpu::Context& context, Ledger& ledger, const RehearsedSession& session) {
  rehearse(context, ledger, session, std::min(std::max(session.options.maxBatch, 1) + 1, session.context));
}

}  // namespace winnow
