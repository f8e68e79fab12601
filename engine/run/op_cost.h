// SPDX-License-Identifier: GPL-3.0-or-later
// What an op of a plan reads and computes, whoever executes it: with its time it gives GB/s and GFLOP/s.
#pragma once
#include "engine/model/config.h"
#include "engine/run/backend.h"

namespace winnow {

// Bytes and FLOPs, no time, of op `index` once its keys and values are in the caches. `materialised`: followers read probabilities.
// `critical`: slots before the segment that attention read, summed over the kv heads; below 0: all, as without a choice.
OpTime declaredCost(const ForwardInput& input, const ModelConfig& model, int index, bool materialised, int64_t critical = -1);

}  // namespace winnow
