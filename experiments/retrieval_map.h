// SPDX-License-Identifier: GPL-3.0-or-later
// What a retrieval found, as it is stored and as a map of depths and lengths.
#pragma once
#include "engine/evaluate/retrieval.h"
#include "experiments/chart_data.h"

namespace winnow {

storage::RetrievalSample retrievalSample(const RetrievalScore& score);

enum class RetrievalQuantity { found, surprise };  // share of the answers; mean NLL of their tokens, nat

// A row for each depth, a column for each length. No rows where no depth is known. baseline: of every knob at its default, for questions that
// were asked of it too.
Chart::Panel retrievalMap(const QString& title, const std::vector<storage::RetrievalSample>& samples, RetrievalQuantity quantity, bool baseline = false);

}  // namespace winnow
