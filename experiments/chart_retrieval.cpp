// SPDX-License-Identifier: GPL-3.0-or-later
// What was found, by length of the context and depth of the fact, for each run; and all runs side by side.
#include <QCoreApplication>
#include <algorithm>
#include <cmath>
#include <iterator>

#include "experiments/chart_builders.h"
#include "experiments/retrieval_map.h"

namespace winnow {
namespace {

constexpr size_t kMostMaps = 8;

QString tr(const char* s) { return QCoreApplication::translate("winnow::Charts", s); }

using Samples = std::vector<storage::RetrievalSample>;
struct Asked {
  storage::RunSummary run;
  QString name;
  Samples samples;
};

Chart::Panel barsOf(const QString& title, const ChartAxis& y) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::bars;
  panel.title = title;
  panel.x.title = tr("run");
  panel.y = y;
  panel.series.resize(1);
  panel.series[0].name = y.title;
  return panel;
}

// The bar of the share found, and that of the surprise at the answers.
void addBars(Chart::Panel& shares, Chart::Panel& surprise, const QString& name, const Samples& samples, bool baseline) {
  double nll = 0;
  int64_t tokens = 0, found = 0;
  for (const auto& s : samples) {
    nll += baseline ? s.baseNllSum : s.nllSum;
    tokens += s.count;
    found += baseline ? s.baseFound.value_or(false) : s.found;
  }
  const auto n = static_cast<int64_t>(samples.size());
  const Interval interval = shareInterval(found, n);
  const auto bar = [&](Chart::Panel& panel, double value) {
    panel.series[0].x.push_back(static_cast<double>(panel.x.categories.size()));
    panel.series[0].y.push_back(value);
    panel.x.categories << name;
  };
  bar(shares, static_cast<double>(found) / static_cast<double>(n));
  shares.series[0].low.push_back(interval.low);
  shares.series[0].high.push_back(interval.high);
  bar(surprise, nll / static_cast<double>(tokens));
}

void addMaps(std::vector<Chart::Panel>& maps, const QString& name, const Samples& samples, bool baseline) {
  for (const auto quantity : {RetrievalQuantity::found, RetrievalQuantity::surprise}) {
    Chart::Panel map = retrievalMap(name, samples, quantity, baseline);
    if (map.cells.empty()) return;
    map.title += quantity == RetrievalQuantity::found ? tr(": found") : tr(": surprise, nat/token");
    maps.push_back(std::move(map));
  }
}

// Named by the knobs in which they differ.
Result<std::vector<Asked>> askedOf(storage::SessionFile& session, const RunList& runs) {
  std::vector<Asked> out;
  RunList evaluations;
  for (const storage::RunSummary& run : runs) {
    if (run.kind != storage::RunKind::evaluate) continue;
    auto samples = session.retrieval(run.id);
    if (!samples) return fromStorage(samples.error());
    if (samples->empty()) continue;
    out.push_back({run, runName(run), std::move(*samples)});
    evaluations.push_back(run);
  }
  const auto rows = collectFigures(session, evaluations);
  if (!rows) return rows.error();
  for (const ConfigurationFigures& row : *rows)
    for (const storage::RunSummary& run : row.runs)
      for (Asked& one : out)
        if (one.run.id == run.id && row.runs.size() == 1) one.name = row.name;
  return out;
}

// One scale for all, so that colours compare.
void shareScale(std::vector<Chart::Panel>& maps) {
  float largest = 0;
  for (const Chart::Panel& map : maps)
    for (const auto& row : map.cells)
      for (const float cell : row)
        if (map.largest == 0 && std::isfinite(cell)) largest = std::max(largest, cell);
  for (Chart::Panel& map : maps)
    if (map.largest == 0) map.largest = largest;
}

}  // namespace

Result<Chart> buildRetrieval(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("Retrieval: what is still found");
  const auto asked = askedOf(session, runs);
  if (!asked) return asked.error();
  if (asked->empty())
    return Error{ErrorCode::badInput, tr("There is nothing to chart: no run has asked for facts in a context.").toStdString(),
                 tr("A plan with the kind retrieve, or Retrieval in the window, makes one.").toStdString()};
  Chart::Panel shares = barsOf(tr("Answers found, 95 % interval"), {tr("share found"), {}, false, {}}),
               surprise = barsOf(tr("Surprise at the answer"), {tr("negative log-likelihood"), QStringLiteral("nat/token"), false, {}});
  std::vector<Chart::Panel> maps;
  const Asked& first = asked->front();
  if (first.samples.front().baseFound) {
    addBars(shares, surprise, tr("defaults"), first.samples, true);
    addMaps(maps, tr("Every knob at its default"), first.samples, true);
  }
  for (const Asked& one : *asked) {
    used.push_back(one.run);
    addBars(shares, surprise, one.name, one.samples, false);
    addMaps(maps, one.name, one.samples, false);
  }
  shareScale(maps);
  if (!chosen && maps.size() > kMostMaps) {
    chart.notes << tr("%1 of %2 maps are shown. Name runs to choose others.").arg(kMostMaps).arg(maps.size());
    maps.resize(kMostMaps);
  }
  chart.panels = {std::move(shares), std::move(surprise)};
  chart.panels.insert(chart.panels.end(), std::make_move_iterator(maps.begin()), std::make_move_iterator(maps.end()));
  chart.notes << tr("Found: every token of the answer is the most likely one. Interval by Wilson's score over %1 questions.").arg(first.samples.size());
  if (std::ranges::any_of(*asked, [&](const Asked& one) { return one.run.protocol != first.run.protocol; }))
    chart.notes << tr("not comparable: the questions differ (see the protocols)");
  return chart;
}

}  // namespace winnow
