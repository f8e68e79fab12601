// SPDX-License-Identifier: GPL-3.0-or-later
// What an op of a plan reads and computes, whoever executes it: with its time it gives GB/s and GFLOP/s.
#pragma once
#include "engine/model/config.h"
#include "engine/run/backend.h"

namespace winnow {

// Bytes and FLOPs, no time, of op `index` once its keys and values are in the caches. `materialised`: followers read probabilities.
OpTime declaredCost(const ForwardInput& input, const ModelConfig& model, int index, bool materialised);

}  // namespace winnow
