// SPDX-License-Identifier: GPL-3.0-or-later
// What a run takes, by the code that allocates and without computing: for plans of memory, and for scratch taken before it is needed.
#pragma once
#include "engine/cpu/ops.h"
#include "engine/knobs/knobs.h"
#include "engine/plan/plan.h"
#include "engine/run/engine.h"
#include "engine/weights/store.h"

namespace winnow {

struct RehearsedSession {
  const ModelConfig& model;
  const Plan& plan;
  const WeightSet& weights;
  const Config& config;  // effective
  const SessionOptions& options;
  int context;           // tokens
};

// Bytes posted to `ledger` when `tokens` are in the cache: a prompt by batches with an eviction after each, then a decoded token, as a
// session does it. The ledger and the kernels' context are planning ones; the context keeps the scratch that was asked for.
MemoryByTag rehearse(cpu::Context& context, Ledger& ledger, const RehearsedSession& session, int tokens);

// The scratch every session takes when it begins: that of a whole batch, so that memory does not grow with the first long prompt.
void rehearseBatch(cpu::Context& context, Ledger& ledger, const RehearsedSession& session);

}  // namespace winnow
