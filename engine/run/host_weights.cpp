// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/host_weights.h"

#include "engine/run/core.h"

namespace winnow {

Result<HostWeights> hostWeights(const Engine& engine, const Config& config, ThreadPool& pool, const Progress& progress) {
  EngineCore& core = EngineCore::of(engine);
  HostWeights out;
  out.effective = resolve(config, core.model->config());
  out.target = core.targetOf(out.effective.config.with("activation.method", std::string("none")));  // leaves things out while decoding: not of the weights
  for (const Adjustment& each : out.target.adjustments) out.effective.adjustments.push_back(each);
  auto built = core.device->memory() ? WeightStore(core.model, core.ledger).build(out.target, pool, core.measurements(), progress)
                                     : core.store.build(out.target, pool, core.measurements(), progress);
  if (!built) return built.error();
  out.set = std::move(*built);
  for (const Adjustment& each : out.set->adjustments) out.effective.adjustments.push_back(each);
  if (out.target.calibration) {
    auto measured = core.calibrate(*out.target.calibration, progress);  // kept since it was measured for the weights
    if (!measured) return measured.error();
    out.calibration = std::move(*measured);
  }
  return out;
}

}  // namespace winnow
