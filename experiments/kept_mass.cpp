// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/kept_mass.h"

#include <algorithm>

#include "experiments/attention.h"
#include "experiments/jobs.h"

namespace winnow {

Result<KeptMass> keptMassRun(Engine& engine, const Config& config, const KeptMassSpec& spec, const Progress& progress) {
  if (!engine.tokenizer()) return noTokenizer();
  std::vector<int32_t> ids = engine.tokenizer()->encode(spec.text, true);
  const int known = engine.model().config().context, most = known > 0 ? std::min(spec.tokens, known) : spec.tokens;
  ids.resize(std::min(ids.size(), static_cast<size_t>(std::max(most, 0))));
  SessionOptions options;
  options.context = std::max(static_cast<int>(ids.size()), 2);
  const auto whole = engine.createSession(withWholeCache(config), options, progress);
  if (!whole) return whole.error();
  const auto kept = engine.createSession(config, options, progress);
  if (!kept) return kept.error();
  return measureKeptMass(**whole, **kept, ids, spec.prompt > 0 ? spec.prompt : std::max(1, static_cast<int>(ids.size() / 2)), progress);
}

}  // namespace winnow
