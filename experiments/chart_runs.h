// SPDX-License-Identifier: GPL-3.0-or-later
// What charts and comparisons need to know of stored runs: one figure with its interval for latency, memory and perplexity, and which
// runs describe the same configuration.
#pragma once
#include <QString>
#include <QStringList>
#include <optional>
#include <vector>

#include "engine/core/result.h"
#include "experiments/statistics.h"
#include "storage/session_file.h"

namespace winnow {

struct Figure {
  double value = 0;
  std::optional<Interval> interval;  // 95 %
  int64_t n = 0;                     // measurements behind it
  QString protocol;                  // perplexity: "llama c=512, corpus"; latency: "generate", "tg128"
};

// One row of a comparison: a run, or the runs of one configuration (an evaluation and a bench, the repeats of a sweep point).
struct ConfigurationFigures {
  QString name;                         // that of its run, or the knobs that differ among the rows
  std::vector<storage::RunSummary> runs;
  std::optional<Figure> latency;        // ms per token, median
  std::optional<Figure> memory;         // bytes, peak
  std::optional<Figure> perplexity;
  std::vector<std::pair<QString, double>> memoryByTag;  // at the peak, bytes; empty until addMemoryParts()
  bool baseline = false;
};

// Errors of storage as an Error a person can read.
Error fromStorage(const storage::Error& error);

// The runs asked for, in the order asked for; none asked for: the finished ones, baseline first, then oldest first.
Result<std::vector<storage::RunSummary>> selectRuns(storage::SessionFile& session, const std::vector<storage::Id>& ids);
QString runName(const storage::RunSummary& run);  // its name, or "generate 12"

// Decode times in ms: of every token, or per repetition of the first generation test.
Result<std::vector<double>> latencySamples(storage::SessionFile& session, const storage::RunSummary& run);
Result<std::optional<Figure>> latencyOf(storage::SessionFile& session, const storage::RunSummary& run);
Result<std::optional<Figure>> perplexityOf(storage::SessionFile& session, const storage::RunSummary& run);

Result<std::vector<ConfigurationFigures>> collectFigures(storage::SessionFile& session, const std::vector<storage::RunSummary>& runs);
// Fills in memoryByTag, which reads every memory sample: for the rows that are shown.
Status addMemoryParts(storage::SessionFile& session, std::vector<ConfigurationFigures>& rows);
// "not comparable: device differs" and the like; empty when all rows can be compared.
QStringList comparisonNotes(const std::vector<ConfigurationFigures>& rows);
// Runs, model, device, protocol and date in one line.
QString captionOf(const std::vector<storage::RunSummary>& runs);

// What somebody needs to repeat the runs: identity, configuration asked for and got, machine, program, seed.
std::vector<std::pair<QString, QString>> reproducibilityOf(storage::SessionFile& session, const std::vector<storage::RunSummary>& runs);

QString memoryTagTitle(const std::string& tag);  // "weights_mapped" -> "weights, mapped"

}  // namespace winnow
