// SPDX-License-Identifier: GPL-3.0-or-later
// Rows into records, on a read-only connection.
#pragma once
#include <string>
#include <vector>

#include "storage/records.h"
#include "storage/sqlite.h"

namespace winnow::storage {

std::vector<RunSummary> readRuns(Db& db, std::optional<Id> only);  // newest first
std::vector<TokenSample> readTokens(Db& db, Id run);
std::vector<MemorySample> readMemory(Db& db, Id run);
std::vector<KnobEvent> readKnobEvents(Db& db, Id run);
std::vector<EventRecord> readEvents(Db& db, Id run);
std::vector<WindowSample> readWindows(Db& db, Id run);
std::vector<RetrievalSample> readRetrieval(Db& db, Id run);
std::vector<BenchSample> readBench(Db& db, Id run);
std::vector<OpStat> readOpStats(Db& db, Id run);
std::optional<AttributionRecord> readAttribution(Db& db, Id run);      // attribution_rows.cpp
std::vector<AttributionOutcome> readOutcomes(Db& db, Id run);
std::vector<std::string> attributionQueries();
std::optional<EnvironmentRecord> readEnvironment(Db& db, Id run);
std::vector<SweepRecord> readSweeps(Db& db);

// The statements behind them, for the tests of their query plans.
std::vector<std::string> listQueries();       // read whole tables of runs, never of samples
std::vector<std::string> perRunQueries();

}  // namespace winnow::storage
