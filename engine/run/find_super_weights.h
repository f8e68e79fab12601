// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <vector>

#include "engine/run/engine.h"
#include "engine/weights/super_weights.h"

namespace winnow {

// Weights of down projections that a model can't do without, in the order they were found; empty when none stands out. Searched once per
// engine, with the values of the file: a forward pass each, blocking. [any thread]
Result<std::vector<SuperWeight>> findSuperWeights(const Engine& engine, const Progress& progress);

}  // namespace winnow
