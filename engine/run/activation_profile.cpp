// SPDX-License-Identifier: GPL-3.0-or-later
// Distributions of the activations of the weights that run, whole: what activation sparsity reads its thresholds off.
#include <algorithm>
#include <cmath>
#include <new>

#include "engine/cache/kv_cache.h"
#include "engine/core/device_failure.h"
#include "engine/run/core.h"
#include "engine/sparsify/profile.h"

namespace winnow {
namespace {

constexpr size_t kMostProfiles = 4;

// ||column j||, of down of each layer; the error factors beside it are left out.
std::vector<std::vector<float>> downNorms(const WeightSet& set, const WeightPlace& place, ThreadPool& pool) {
  std::vector<std::vector<float>> out(set.layers.size());
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(static_cast<int64_t>(out.size()), 1, thread, threads);
    for (int64_t layer = range.begin; layer < range.end; ++layer) {
      if (!set.layers[static_cast<size_t>(layer)].down) continue;
      Matrix copy;
      const Matrix* down = &place.onHost(*set.layers[static_cast<size_t>(layer)].down, copy);
      std::vector<float>& norms = out[static_cast<size_t>(layer)];
      norms.assign(static_cast<size_t>(down->cols), 0.0f);
      std::vector<float> row(norms.size());
      for (int r = 0; r < down->rows; ++r) {
        dequantizeRow(*down, r, row.data());
        for (size_t c = 0; c < row.size(); ++c) norms[c] += row[c] * row[c];
      }
      for (float& norm : norms) norm = std::sqrt(norm);
    }
  });
  return out;
}

}  // namespace

Result<std::shared_ptr<const ActivationProfile>> EngineCore::profile(const WeightTarget& target, const WeightSet& set, const CalibrationChoice& choice,
                                                                     const Progress& progress) {
  std::string key;  // the target's but for the method: all read the same distributions
  for (const Recipe& recipe : target.recipes) key += recipe.key() + "\n";
  key += layerDropKey(target.layers) + (target.sharing ? " sharing " + target.sharing->key() : "") + (target.width ? " without " + widthKey(*target.width) : "") + (target.attentionKey.empty() ? "" : " without " + target.attentionKey) + " [" + choice.identity() + "]";
  const std::scoped_lock lock(profileMutex);
  const auto known = std::ranges::find_if(profiles, [&](const auto& each) { return each.first == key; });
  if (known != profiles.end()) return known->second;
  const auto tokens = calibrationTokens(choice);
  if (!tokens) return tokens.error();
  try {
    ThreadPool pool(threads);
    auto measured = std::make_shared<ActivationProfile>(set.shape(), ledger, static_cast<int64_t>(tokens->ids.size()), downNorms(set, store.place(), pool));
    const Plan plan = buildPlan(model->config(), set.sharing.empty() ? noSharing(model->config().layers) : set.sharing, set.parts, set.sliceWidth > 0);
    if (Status seen = observe(set, plan, tokens->ids, tokens->window, pool, {measured.get(), nullptr}, progress); !seen) return seen.error();
    if (Status sound = measured->sound(); !sound) return sound.error();
    if (profiles.size() == kMostProfiles) profiles.erase(profiles.begin());
    profiles.emplace_back(key, measured);
    return std::shared_ptr<const ActivationProfile>(std::move(measured));
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resources, "Not enough memory to measure activations over the calibration text.", "Choose activation.method=griffin, which measures none."};
  } catch (const DeviceFailure& failure) {
    return Error{ErrorCode::failed, failure.what(), "Use --device cpu."};
  }
}

}  // namespace winnow
