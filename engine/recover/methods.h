// SPDX-License-Identifier: GPL-3.0-or-later
// The prepare functions that registry.cpp lists, one per file of this folder, and what they share.
#pragma once
#include <vector>

#include "engine/recover/method.h"

namespace winnow {

std::unique_ptr<Recovery> prepareScaleRecovery(const RecoveryInput& input);
std::unique_ptr<Recovery> prepareLeastSquaresRecovery(const RecoveryInput& input);
std::unique_ptr<Recovery> prepareAdmmRecovery(const RecoveryInput& input);

// C (dense - pruned)^T of one row, in double: half of what its loss falls by per unit of each weight. [cols]
std::vector<double> lostMoments(const SecondMoments& moments, const float* dense, const float* pruned);

}  // namespace winnow
