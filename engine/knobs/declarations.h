// SPDX-License-Identifier: GPL-3.0-or-later
// The knobs each part declares; schema.cpp joins them in this order.
#pragma once
#include <vector>

#include "engine/knobs/knobs.h"

namespace winnow {

std::vector<Knob> weightKnobs();
std::vector<Knob> pruneKnobs();
std::vector<Knob> cacheKnobs();
std::vector<Knob> sharingKnobs();
std::vector<Knob> prefillKnobs();
std::vector<Knob> activationKnobs();
std::vector<Knob> computeKnobs();

}  // namespace winnow
