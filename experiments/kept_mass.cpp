// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/kept_mass.h"

#include <algorithm>

#include "experiments/attention.h"

namespace winnow {

Result<KeptMass> keptMassRun(Engine& engine, const Config& config, const KeptMassSpec& spec, const Progress& progress) {
  const auto ids = opening(engine, spec.text, spec.tokens);
  if (!ids) return ids.error();
  SessionOptions options;
  options.context = std::max(static_cast<int>(ids->size()), 2);
  const auto whole = engine.createSession(withWholeCache(config), options, progress);
  if (!whole) return whole.error();
  const auto kept = engine.createSession(config, options, progress);
  if (!kept) return kept.error();
  return measureKeptMass(**whole, **kept, *ids, spec.prompt > 0 ? spec.prompt : std::max(1, static_cast<int>(ids->size() / 2)), progress);
}

}  // namespace winnow
