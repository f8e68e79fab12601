// SPDX-License-Identifier: GPL-3.0-or-later
// What head_dims.cpp lists, one file per method.
#pragma once
#include <memory>
#include <vector>

#include "engine/prune/head_dims.h"
#include "engine/weights/head_folds.h"

namespace winnow {

std::vector<double> modegptKeyScores(const HeadDimInput& input);
std::vector<double> randomKeyScores(const HeadDimInput& input);
std::vector<double> randomValueScores(const HeadDimInput& input);
std::shared_ptr<const HeadFolds> modegptFolds(const HeadDimInput& input, int kept);

}  // namespace winnow
