// SPDX-License-Identifier: GPL-3.0-or-later
// Quality and cost by depth of the context: as stored among the metrics of a run, and as lines of a chart.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "engine/evaluate/perplexity.h"
#include "experiments/chart_data.h"

namespace winnow {

struct DepthPoint {  // NaN: not measured
  int depth = 0;
  double perplexity = 0, low = 0, high = 0;  // 95 %
  double kld = 0, top1 = 0, stepMs = 0, kvBytes = 0;
};
struct DepthLine {
  QString name;
  std::vector<DepthPoint> points;  // ascending
};

// Of the configuration or, `baseline`, of what it was compared with (no points where it was not).
DepthLine depthLine(const QString& name, const PerplexityResult& result, bool baseline);
DepthLine depthLine(const QString& name, const storage::RunSummary& run, bool baseline);
std::vector<storage::Metric> depthMetrics(const DepthLine& line, bool baseline);  // "kld_mean@2048", "perplexity_baseline@512" ...

// KL divergence, perplexity, time of a token and cache, each where any line has it.
std::vector<Chart::Panel> depthPanels(const std::vector<DepthLine>& lines);

}  // namespace winnow
