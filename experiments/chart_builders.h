// SPDX-License-Identifier: GPL-3.0-or-later
// One function per chart. `chosen`: a person named these runs, so none is left out silently; otherwise they are all finished ones.
// `used` gets the runs that are shown; what a builder puts in the caption follows the description of those.
#pragma once
#include "experiments/chart_data.h"
#include "experiments/chart_runs.h"

namespace winnow {

using RunList = std::vector<storage::RunSummary>;

Result<Chart> buildLatency(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildMemory(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildPerplexity(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildComparison(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildPareto(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildAttribution(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildAttributionPareto(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);
Result<Chart> buildRetrieval(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);  // chart_retrieval.cpp
Result<Chart> buildDepth(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);      // chart_depth.cpp
Result<Chart> buildCache(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used);

}  // namespace winnow
