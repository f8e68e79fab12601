// SPDX-License-Identifier: GPL-3.0-or-later
// The prepare functions that registry.cpp lists; one per file of this folder.
#pragma once
#include "engine/prune/method.h"

namespace winnow {

std::unique_ptr<PruneScores> prepareMagnitude(const PruneInput& input, Ledger& ledger);
std::unique_ptr<PruneScores> prepareWanda(const PruneInput& input, Ledger& ledger);
std::unique_ptr<PruneScores> prepareSparseGpt(const PruneInput& input, Ledger& ledger);
std::unique_ptr<PruneScores> prepareSds(const PruneInput& input, Ledger& ledger);
std::unique_ptr<PruneScores> prepareSdsWanda(const PruneInput& input, Ledger& ledger);
std::unique_ptr<PruneScores> prepareBarber(const PruneInput& input, Ledger& ledger);

}  // namespace winnow
