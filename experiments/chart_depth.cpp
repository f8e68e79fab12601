// SPDX-License-Identifier: GPL-3.0-or-later
// Quality and cost by depth of the context, a line for each configuration.
#include <QCoreApplication>
#include <algorithm>
#include <cmath>
#include <limits>

#include "experiments/chart_builders.h"
#include "experiments/depth_lines.h"

namespace winnow {
namespace {

constexpr size_t kMostLines = 8;
constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

QString tr(const char* s) { return QCoreApplication::translate("winnow::Charts", s); }

// How each quantity is stored.
struct Quantity {
  const char *name, *unit, *better;
  double DepthPoint::*value;
};
constexpr Quantity kQuantities[] = {{"perplexity", "", "lower", &DepthPoint::perplexity}, {"kld_mean", "nat", "lower", &DepthPoint::kld},
                                    {"top1", "", "higher", &DepthPoint::top1},            {"step_ms", "ms", "lower", &DepthPoint::stepMs},
                                    {"kv_bytes", "B", "lower", &DepthPoint::kvBytes}};

std::string suffix(bool baseline) { return baseline ? "_baseline@" : "@"; }
DepthPoint nothingAt(int depth) { return {depth, kMissing, kMissing, kMissing, kMissing, kMissing, kMissing, kMissing}; }

Chart::Panel panelOf(const std::vector<DepthLine>& lines, const QString& title, const ChartAxis& y, double DepthPoint::*value) {
  Chart::Panel panel;
  panel.title = title;
  panel.x = {tr("context"), QStringLiteral("tokens"), true, {}};
  panel.y = y;
  for (const DepthLine& line : lines) {
    ChartSeries series;
    series.name = line.name;
    for (const DepthPoint& point : line.points) {
      if (!std::isfinite(point.*value)) continue;
      series.x.push_back(point.depth);
      series.y.push_back(point.*value);
      if (value != &DepthPoint::perplexity || !std::isfinite(point.low)) continue;
      series.low.push_back(point.low);
      series.high.push_back(point.high);
    }
    if (!series.x.empty()) panel.series.push_back(std::move(series));
  }
  return panel;
}

// Runs that were measured by depth, named by the knobs in which they differ.
Result<std::vector<std::pair<QString, storage::RunSummary>>> measured(storage::SessionFile& session, const RunList& runs) {
  RunList evaluations;
  for (const storage::RunSummary& run : runs)
    if (!depthLine({}, run, false).points.empty()) evaluations.push_back(run);
  const auto rows = collectFigures(session, evaluations);
  if (!rows) return rows.error();
  std::vector<std::pair<QString, storage::RunSummary>> out;
  for (const storage::RunSummary& run : evaluations) {
    const auto alone = std::ranges::find_if(*rows, [&](const ConfigurationFigures& row) { return row.runs.size() == 1 && row.runs.front().id == run.id; });
    out.emplace_back(alone != rows->end() ? alone->name : runName(run), run);
  }
  return out;
}

}  // namespace

DepthLine depthLine(const QString& name, const PerplexityResult& result, bool baseline) {
  DepthLine line{name, {}};
  if (baseline && !result.kld) return line;
  for (const DepthSummary& row : result.depths) {
    DepthPoint point = nothingAt(row.depth);
    const WindowSums& sums = baseline ? row.baseSums : row.sums;
    const DepthSummary::Cost& cost = baseline ? row.baseCost : row.cost;
    point.perplexity = sums.perplexity();
    if (!baseline) {  // of the baseline's predictions the squares are not summed
      point.low = point.perplexity - 1.96 * sums.stderror();
      point.high = point.perplexity + 1.96 * sums.stderror();
    }
    if (result.kld && !baseline) {
      point.kld = sums.kld / static_cast<double>(sums.count);
      point.top1 = static_cast<double>(sums.sameTop) / static_cast<double>(sums.count);
    }
    if (cost.stepMs > 0) point.stepMs = cost.stepMs;
    point.kvBytes = static_cast<double>(cost.kvBytes);
    line.points.push_back(point);
  }
  return line;
}

DepthLine depthLine(const QString& name, const storage::RunSummary& run, bool baseline) {
  DepthLine line{name, {}};
  for (const auto& [metric, stored] : run.metrics)
    for (const Quantity& quantity : kQuantities) {
      const std::string stem = quantity.name + suffix(baseline);
      if (!metric.starts_with(stem)) continue;
      bool number = false;
      const int depth = QString::fromStdString(metric.substr(stem.size())).toInt(&number);
      if (!number || depth <= 0) continue;
      auto point = std::ranges::find(line.points, depth, &DepthPoint::depth);
      if (point == line.points.end()) point = line.points.insert(line.points.end(), nothingAt(depth));
      (*point).*quantity.value = stored.value;
      if (quantity.value != &DepthPoint::perplexity) continue;
      point->low = stored.ciLow.value_or(kMissing);
      point->high = stored.ciHigh.value_or(kMissing);
    }
  std::ranges::sort(line.points, {}, &DepthPoint::depth);
  return line;
}

std::vector<storage::Metric> depthMetrics(const DepthLine& line, bool baseline) {
  std::vector<storage::Metric> out;
  for (const DepthPoint& point : line.points)
    for (const Quantity& quantity : kQuantities) {
      if (!std::isfinite(point.*quantity.value)) continue;
      storage::Metric metric{quantity.name + suffix(baseline) + std::to_string(point.depth), quantity.unit, quantity.better, 1, point.*quantity.value, {}, {}, {}, {}, {}};
      if (quantity.value == &DepthPoint::perplexity && std::isfinite(point.low)) {
        metric.ciLow = point.low;
        metric.ciHigh = point.high;
      }
      out.push_back(std::move(metric));
    }
  return out;
}

std::vector<Chart::Panel> depthPanels(const std::vector<DepthLine>& lines) {
  std::vector<Chart::Panel> panels{
      panelOf(lines, tr("Distance from the defaults"), {tr("KL divergence"), QStringLiteral("nat"), false, {}}, &DepthPoint::kld),
      panelOf(lines, tr("Perplexity of the same predictions"), {tr("perplexity"), QStringLiteral("perplexity"), false, {}}, &DepthPoint::perplexity),
      panelOf(lines, tr("Time of a token"), {tr("time per token"), QStringLiteral("ms"), false, {}}, &DepthPoint::stepMs),
      panelOf(lines, tr("Cache"), {tr("KV cache"), QStringLiteral("B"), false, {}}, &DepthPoint::kvBytes)};
  std::erase_if(panels, [](const Chart::Panel& panel) { return panel.series.empty(); });
  return panels;
}

Result<Chart> buildDepth(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("By depth of the context");
  auto found = measured(session, runs);
  if (!found) return found.error();
  if (found->empty())
    return Error{ErrorCode::badInput, tr("There is nothing to chart: no run has measured predictions at depths of the context.").toStdString(),
                 tr("Evaluate in the window, or an evaluation with depths in a plan, makes one.").toStdString()};
  if (!chosen && found->size() > kMostLines) {
    chart.notes << tr("%1 of %2 runs are shown. Name runs to choose others.").arg(kMostLines).arg(found->size());
    found->resize(kMostLines);
  }
  std::vector<DepthLine> lines;
  DepthLine defaults = depthLine(tr("defaults"), found->front().second, true);
  const bool compared = !defaults.points.empty();
  if (compared) lines.push_back(std::move(defaults));
  for (const auto& [name, run] : *found) {
    used.push_back(run);
    lines.push_back(depthLine(name, run, false));
  }
  chart.panels = depthPanels(lines);
  chart.notes << tr("At every depth the same predictions, fed one by one. The time is that of the engine's own step, while the one it is compared with steps in between.");
  const auto other = [&](const auto& one) { return one.second.protocol != found->front().second.protocol || one.second.corpus != found->front().second.corpus; };
  if (std::ranges::any_of(*found, other)) chart.notes << tr("not comparable: the depths or texts differ (see the protocols)");
  return chart;
}

}  // namespace winnow
