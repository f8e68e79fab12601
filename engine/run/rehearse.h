// SPDX-License-Identifier: GPL-3.0-or-later
// What a run takes, by the code that allocates and without computing: for plans of memory, and for scratch taken before it is needed.
#pragma once
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
  int context;           // tokens
  int64_t promptCacheBytes = 0;  // as SessionOptions
};

struct Rehearsal {
  MemoryByTag all{}, onDevice{};  // bytes; the second of a device's own memory, part of the first
  int64_t promptCache = 0;        // the most bytes that the cache takes while the prompt is read
};

// Memory in use when `tokens` are in the cache: a prompt by batches with an eviction after each, then a decoded token, as a session does
// it. The ledger is a planning one and the backend made on it; the backend keeps the scratch that was asked for.
Rehearsal rehearse(Backend& backend, Ledger& ledger, const RehearsedSession& session, int tokens);

// The scratch every session takes when it begins: that of a whole batch, so that memory does not grow with the first long prompt.
void rehearseBatch(Backend& backend, Ledger& ledger, const RehearsedSession& session);

}  // namespace winnow
