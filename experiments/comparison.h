// SPDX-License-Identifier: GPL-3.0-or-later
// Chosen runs against a baseline: each figure with its change and a verdict in words. Time by the shift between the samples of both,
// perplexity paired by window, so that a difference is called one only where the measurements carry it.
#pragma once
#include <QString>
#include <QStringList>
#include <optional>
#include <vector>

#include "engine/core/result.h"
#include "experiments/chart_runs.h"
#include "experiments/statistics.h"

namespace winnow {

struct MetricChange {
  std::optional<Figure> figure;
  double ratio = 1;                   // to the baseline's
  std::optional<Interval> interval;   // of the ratio, 95 %
  Verdict verdict = Verdict::notComparable;
  QString words;                      // faster, slower, less, more, better, worse, within noise, baseline, or why not comparable
};

struct ComparisonRow {
  ConfigurationFigures figures;
  bool baseline = false;
  MetricChange latency, memory, perplexity;
};

struct Comparison {
  std::vector<ComparisonRow> rows;
  QStringList notes;
};

// baseline: a run whose row the others are compared with; unset: the session's baseline run if it is among them, else the first.
// Verdicts are at 95 %, Holm-corrected over the table; below 1 % a change is not called one.
Result<Comparison> compareRuns(storage::SessionFile& session, const std::vector<storage::Id>& runs, std::optional<storage::Id> baseline = {});

// Which of the hypotheses with these p-values are rejected at `alpha` by Holm's procedure.
std::vector<bool> holm(const std::vector<double>& p, double alpha = 0.05);

}  // namespace winnow
