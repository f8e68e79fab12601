// SPDX-License-Identifier: GPL-3.0-or-later
// One function per chart. `chosen`: a person named these runs, so none is left out silently; otherwise they are all finished ones.
#pragma once
#include "experiments/chart_data.h"
#include "experiments/chart_runs.h"

namespace winnow {

using RunList = std::vector<storage::RunSummary>;

Result<Chart> buildLatency(storage::SessionFile& session, const RunList& runs, bool chosen);
Result<Chart> buildMemory(storage::SessionFile& session, const RunList& runs, bool chosen);
Result<Chart> buildPerplexity(storage::SessionFile& session, const RunList& runs, bool chosen);
Result<Chart> buildComparison(storage::SessionFile& session, const RunList& runs, bool chosen);
Result<Chart> buildPareto(storage::SessionFile& session, const RunList& runs, bool chosen);
Result<Chart> buildAttribution(storage::SessionFile& session, const RunList& runs, bool chosen);
Result<Chart> buildCache(storage::SessionFile& session, const RunList& runs, bool chosen);

}  // namespace winnow
