// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/find_super_weights.h"

#include <algorithm>
#include <new>

#include "engine/core/device_failure.h"
#include "engine/run/core.h"
#include "engine/run/session_impl.h"

namespace winnow {

Result<std::vector<SuperWeight>> findSuperWeights(const Engine& engine, const Progress& progress) {
  const auto found = EngineCore::of(engine).superWeights(progress);
  if (!found) return found.error();
  return **found;
}

// Those found are zero in the next pass: a second one may hide behind the first.
Result<std::shared_ptr<const std::vector<SuperWeight>>> EngineCore::superWeights(const Progress& progress) {
  const std::scoped_lock lock(superMutex);
  if (superFound) return superFound;
  const ModelConfig& config = model->config();
  std::vector<int32_t> ids = tokenizer ? tokenizer->encode(kSuperWeightPrompt, true) : std::vector<int32_t>();
  for (int32_t id = 0; !tokenizer && id < std::min(config.vocab, 32); ++id) ids.push_back(id);
  if (config.context > 0 && static_cast<int>(ids.size()) > config.context) ids.resize(static_cast<size_t>(config.context));
  try {
    ThreadPool pool(threads);
    std::vector<SuperWeight> found;
    while (static_cast<int>(found.size()) < kMostSuperWeights) {
      WeightTarget target = targetOf(found.empty() ? Config() : Config().with("weights.super", std::string("zero")));
      for (Recipe& recipe : target.recipes) recipe.superCount = static_cast<int>(found.size());
      SpikeTap tap(config.layers);
      const Measurements known{{}, [&](const Progress&) -> Result<std::shared_ptr<const std::vector<SuperWeight>>> { return std::make_shared<const std::vector<SuperWeight>>(found); }};
      if (Status seen = observe(target, known, ids, static_cast<int>(ids.size()), pool, tap, progress); !seen) return seen.error();
      const std::vector<SuperWeight> more = superWeightsIn(*model, tap, found);
      if (more.empty()) break;
      found.insert(found.end(), more.begin(), more.end());
    }
    if (found.size() > static_cast<size_t>(kMostSuperWeights)) found.resize(static_cast<size_t>(kMostSuperWeights));
    superFound = std::make_shared<const std::vector<SuperWeight>>(std::move(found));
    return superFound;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to look for super weights.", "Choose a smaller model."};
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

}  // namespace winnow
