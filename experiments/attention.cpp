// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/attention.h"

#include <algorithm>

#include "experiments/jobs.h"

namespace winnow {

Config withWholeCache(const Config& config) {
  Config whole = config;
  for (const auto& [knob, value] : config.changed())
    if (knob.starts_with("kv.") || knob.starts_with("share.") || knob.starts_with("prefill.")) whole = whole.with(knob, Schema::instance().find(knob)->defaultValue);
  return whole;
}

Result<std::vector<int32_t>> opening(const Engine& engine, const std::string& text, int tokens) {
  if (!engine.tokenizer()) return noTokenizer();
  std::vector<int32_t> ids = engine.tokenizer()->encode(text, true);
  const int known = engine.model().config().context, most = known > 0 ? std::min(tokens, known) : tokens;
  ids.resize(std::min(ids.size(), static_cast<size_t>(std::max(most, 0))));
  return ids;
}

Result<AttentionMaps> attentionRun(Engine& engine, const Config& config, const AttentionSpec& spec, const Progress& progress) {
  const auto ids = opening(engine, spec.text, spec.tokens);
  if (!ids) return ids.error();
  SessionOptions options;
  options.context = std::max(static_cast<int>(ids->size()), 2);
  options.maxBatch = std::min(32, options.context);  // the attention of all layers is held for a batch
  auto session = engine.createSession(withWholeCache(config), options, progress);
  if (!session) return session.error();
  auto maps = measureAttentionMaps(**session, *ids, spec.cells, progress);
  if (!maps) return maps;
  for (const int32_t id : *ids) maps->pieces.push_back(engine.tokenizer()->decode({id}, true));
  return maps;
}

}  // namespace winnow
