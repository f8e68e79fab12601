// SPDX-License-Identifier: GPL-3.0-or-later
// Records into rows. Each function runs inside the writer's transaction and may be run again after a rollback.
#pragma once
#include <string>
#include <vector>

#include "storage/records.h"
#include "storage/sqlite.h"

namespace winnow::storage {

// What became of a batch of rows: a row that breaks a rule of the schema (a finished run, a duplicate) is refused, the others stay.
struct Outcome {
  int64_t written = 0, refused = 0;
  int64_t tokens = 0;  // of the written
  std::string why;
};

// A rule of the schema was broken: the row alone is at fault, and trying again would not help.
bool rowAtFault(const SqlError& error);

struct RunStart {
  Id id = 0;
  std::string uuid;
  int64_t startedUs = 0;
};

std::string canonicalJson(const std::vector<KnobSetting>& settings);
std::string numberText(double value);  // shortest text that reads back equal

void insertRun(Db& db, const RunStart& start, const NewRun& run);
void updateEffective(Db& db, Id run, const ConfigRecord& effective, const std::string& divergenceJson);
void insertTokens(Db& db, Id run, const std::vector<TokenSample>& samples, Outcome& outcome);  // then countTokens()
void countTokens(Db& db, Id run, int64_t tokens);
void insertMemory(Db& db, Id run, const std::vector<MemorySample>& samples, Outcome& outcome);
void insertKnobEvents(Db& db, Id run, const std::vector<KnobEvent>& events, Outcome& outcome);
void insertEvents(Db& db, Id run, const std::vector<EventRecord>& events, Outcome& outcome);
void insertWindows(Db& db, Id run, const std::vector<WindowSample>& windows, Outcome& outcome);
void insertRetrieval(Db& db, Id run, const std::vector<RetrievalSample>& samples, Outcome& outcome);
void insertBench(Db& db, Id run, const std::vector<BenchSample>& samples, Outcome& outcome);
void insertOpStats(Db& db, Id run, const std::vector<OpStat>& stats, Outcome& outcome);
void insertMetrics(Db& db, Id run, const std::vector<Metric>& metrics, Outcome& outcome);
void replaceAttribution(Db& db, Id run, const AttributionRecord& attribution);  // attribution_rows.cpp
void insertOutcomes(Db& db, Id run, const std::vector<AttributionOutcome>& outcomes, Outcome& outcome);
void replaceOutput(Db& db, Id run, const std::string& text);
void finishRun(Db& db, Id run, RunStatus status, const std::string& error, int64_t nowUs);
void insertSweep(Db& db, Id id, const SweepRecord& sweep, int64_t nowUs);
void updatePoint(Db& db, Id sweep, int ordinal, PointState state, std::optional<Id> run, const std::string& note);
void markBaseline(Db& db, std::optional<Id> run);
void updateUi(Db& db, const std::string& text);
void updateModelHash(Db& db, const std::string& path, const std::string& sha256Hex);
int deleteRuns(Db& db, const std::vector<Id>& runs);

std::string_view pointStateName(PointState state);

}  // namespace winnow::storage
