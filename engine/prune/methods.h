// SPDX-License-Identifier: GPL-3.0-or-later
// The prepare functions that registry.cpp lists; one per file of this folder.
#pragma once
#include "engine/prune/method.h"

namespace winnow {

std::unique_ptr<Pruner> prepareMagnitude(const PruneInput& input);
std::unique_ptr<Pruner> prepareWanda(const PruneInput& input);

}  // namespace winnow
