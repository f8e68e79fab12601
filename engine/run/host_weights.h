// SPDX-License-Identifier: GPL-3.0-or-later
// The weights of a configuration where the host can read them, for reports and export.
#pragma once
#include <memory>

#include "engine/run/engine.h"
#include "engine/weights/store.h"

namespace winnow {

struct HostWeights {
  Effective effective;  // of the configuration, weight knobs that can't be kept included
  WeightTarget target;
  std::shared_ptr<const WeightSet> set;
  std::shared_ptr<const Calibration> calibration;  // statistics the target looked at; null when it needs none
};

// What sessions hold is used as it is; the rest is made, and lives as long as the answer. Where a device computes, all is made anew on the
// host. [any thread]
Result<HostWeights> hostWeights(const Engine& engine, const Config& config, ThreadPool& pool, const Progress& progress);

}  // namespace winnow
