// SPDX-License-Identifier: GPL-3.0-or-later
// What heads.cpp lists, one file per method.
#pragma once
#include <vector>

#include "engine/prune/heads.h"

namespace winnow {

std::vector<double> lrpHeadScores(const HeadInput& input);
std::vector<double> minitronHeadScores(const HeadInput& input);
std::vector<double> randomHeadScores(const HeadInput& input);

}  // namespace winnow
