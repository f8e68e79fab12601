// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/chart_builders.h"

#include <QCoreApplication>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "experiments/attribution_record.h"

namespace winnow {
namespace {

using storage::RunKind;
using storage::RunSummary;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr size_t mostLines = 8;  // as many as there are colours that can be told apart
constexpr size_t mostRows = 24;

QString text(const std::string& s) { return QString::fromStdString(s); }
QString tr(const char* s) { return QCoreApplication::translate("winnow::Charts", s); }

ChartAxis axis(const QString& title, const QString& unit) { return {title, unit, false, {}}; }
ChartAxis tokenAxis() { return axis(tr("token"), QStringLiteral("token")); }

Error nothing(const QString& what, const QString& hint) {
  return {ErrorCode::badInput, tr("There is nothing to chart: %1.").arg(what).toStdString(), hint.toStdString()};
}

// What the second of two attributions of one response says that the first does not.
void addDifference(const storage::AttributionRecord& a, const storage::AttributionRecord& b, Chart& chart) {
  const auto difference = attributionDifference(attributionResult(a), attributionResult(b));
  if (!difference) {
    chart.notes << text(difference.error().message);
    return;
  }
  Chart::Panel panel;
  panel.kind = Chart::Kind::attribution;
  panel.title = tr("Second less first");
  panel.x.title = tr("source");
  panel.y = axis(difference->shares ? tr("difference of shares") : tr("difference"), difference->shares ? QString() : QStringLiteral("nat"));
  ChartSeries s;
  s.name = tr("difference");
  for (size_t i = 0; i < difference->rows.size(); ++i) {
    const AttributionDifference::Row& row = difference->rows[i];
    s.x.push_back(row.source);
    s.y.push_back(row.difference.value_or(nan));
    s.low.push_back(s.y.back() - row.noise);
    s.high.push_back(s.y.back() + row.noise);
    s.labels.push_back(text(a.sources[i].text).simplified());
  }
  panel.series.push_back(std::move(s));
  chart.panels.push_back(std::move(panel));
  for (const std::string& note : difference->notes) chart.notes << text(note);
}

struct Sampled {
  RunSummary run;
  std::vector<storage::TokenSample> tokens;
};

bool isBaseline(const Sampled& s) { return s.run.baseline; }
bool isBaseline(const ConfigurationFigures& row) { return row.baseline; }
bool isBaseline(const std::pair<RunSummary, storage::AttributionRecord>&) { return false; }

// The newest `limit` and the baseline when nobody named the runs; what is left out is said.
template <class T>
void limitTo(std::vector<T>& items, size_t limit, bool chosen, Chart& chart) {
  if (chosen || items.size() <= limit) return;
  chart.notes << tr("%1 of %2 shown: the newest. Name runs to choose others.").arg(limit).arg(items.size());
  const bool keepFirst = isBaseline(items.front());
  items.erase(items.begin() + keepFirst, items.end() - static_cast<ptrdiff_t>(limit) + keepFirst);
}

// Knob changes of one run as epoch markers: those at the same token are one.
Status addMarkers(storage::SessionFile& session, storage::Id run, Chart::Panel& panel) {
  auto events = session.knobEvents(run);
  if (!events) return fromStorage(events.error());
  std::map<int64_t, QStringList> byToken;
  for (const auto& e : *events) byToken[e.atToken] << QStringLiteral("%1 %2 → %3").arg(text(e.knob), text(e.oldValue), text(e.newValue));
  for (const auto& [token, labels] : byToken) panel.markers.push_back({static_cast<double>(token), labels.join(QStringLiteral(", "))});
  return Done{};
}

Result<std::vector<Sampled>> withTokens(storage::SessionFile& session, const RunList& runs) {
  std::vector<Sampled> out;
  for (const RunSummary& run : runs) {
    if (run.kind != RunKind::generate) continue;
    auto tokens = session.tokens(run.id);
    if (!tokens) return fromStorage(tokens.error());
    if (std::any_of(tokens->begin(), tokens->end(), [](const auto& t) { return !t.prefill; })) out.push_back({run, *std::move(tokens)});
  }
  return out;
}

RunList runsOf(const std::vector<Sampled>& sampled) {
  RunList runs;
  for (const Sampled& s : sampled) runs.push_back(s.run);
  return runs;
}

void addBar(ChartSeries& s, size_t index, const std::optional<Figure>& figure) {
  s.x.push_back(static_cast<double>(index));
  s.y.push_back(figure ? figure->value : nan);
  s.low.push_back(figure && figure->interval ? figure->interval->low : nan);
  s.high.push_back(figure && figure->interval ? figure->interval->high : nan);
}

void dropMissingIntervals(ChartSeries& s) {
  if (std::all_of(s.low.begin(), s.low.end(), [](double v) { return std::isnan(v); })) {
    s.low.clear();
    s.high.clear();
  }
}

// Bars of one figure per row of `rows`.
Chart::Panel barPanel(const QString& title, const ChartAxis& y, const std::vector<ConfigurationFigures>& rows,
                      std::optional<Figure> ConfigurationFigures::*figure) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::bars;
  panel.title = title;
  panel.y = y;
  panel.x.title = tr("run");
  ChartSeries s;
  s.name = y.title;
  for (size_t i = 0; i < rows.size(); ++i) {
    panel.x.categories << rows[i].name;
    addBar(s, i, rows[i].*figure);
  }
  dropMissingIntervals(s);
  panel.series.push_back(std::move(s));
  return panel;
}

Chart::Panel memoryPanel(const std::vector<ConfigurationFigures>& rows) {
  const ChartAxis y = axis(tr("peak memory"), QStringLiteral("B"));
  Chart::Panel panel = barPanel(tr("Memory"), y, rows, &ConfigurationFigures::memory);
  const bool parts = std::all_of(rows.begin(), rows.end(), [](const auto& r) { return !r.memory || !r.memoryByTag.empty(); });
  if (!parts) return panel;  // some known as a total only: totals for all
  QStringList tags;
  for (const QString& tag : {tr("weights"), tr("weights, mapped"), tr("KV cache"), tr("activations")}) tags << tag;
  for (const auto& row : rows)
    for (const auto& [tag, bytes] : row.memoryByTag)
      if (!tags.contains(tag)) tags << tag;
  panel.series.clear();
  for (const QString& tag : tags) {
    ChartSeries s;
    s.name = tag;
    s.group = tr("memory");
    bool any = false;
    for (size_t i = 0; i < rows.size(); ++i) {
      double bytes = rows[i].memory ? 0 : nan;
      for (const auto& [name, value] : rows[i].memoryByTag)
        if (name == tag) bytes = value;
      any |= bytes > 0;
      s.x.push_back(static_cast<double>(i));
      s.y.push_back(bytes);
    }
    if (any) panel.series.push_back(std::move(s));
  }
  return panel;
}

bool anyOf(const std::vector<ConfigurationFigures>& rows, std::optional<Figure> ConfigurationFigures::*figure) {
  return std::any_of(rows.begin(), rows.end(), [&](const auto& r) { return (r.*figure).has_value(); });
}

RunList runsOf(const std::vector<ConfigurationFigures>& rows) {
  RunList runs;
  for (const auto& row : rows) runs.insert(runs.end(), row.runs.begin(), row.runs.end());
  return runs;
}

}  // namespace

Result<Chart> buildLatency(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("Latency per token");
  auto sampled = withTokens(session, runs);
  if (!sampled) return sampled.error();
  limitTo(*sampled, mostLines, chosen, chart);
  used = runsOf(*sampled);
  QStringList prefills;
  if (!sampled->empty()) {
    Chart::Panel panel;
    panel.x = tokenAxis();
    panel.y = axis(tr("time per token"), QStringLiteral("ms"));
    for (const Sampled& s : *sampled) {
      ChartSeries series;
      series.name = runName(s.run);
      int64_t prompt = 0, prefillNs = 0;
      for (const auto& t : s.tokens) {
        if (t.prefill) {
          ++prompt;
          prefillNs += t.durationNs;
          continue;
        }
        series.x.push_back(static_cast<double>(t.index));
        series.y.push_back(static_cast<double>(t.durationNs) / 1e6);
      }
      if (prompt > 0)
        prefills << tr("%1 tokens in %2 ms (%3)").arg(prompt).arg(QString::number(static_cast<double>(prefillNs) / 1e6, 'f', 1), series.name);
      panel.series.push_back(std::move(series));
    }
    if (sampled->size() == 1)
      if (auto done = addMarkers(session, sampled->front().run.id, panel); !done) return done.error();
    chart.panels.push_back(std::move(panel));
  }
  RunList benches;
  for (const RunSummary& run : runs)
    if (run.kind == RunKind::bench) benches.push_back(run);
  auto rows = collectFigures(session, benches);
  if (!rows) return rows.error();
  limitTo(*rows, mostRows, chosen, chart);
  if (anyOf(*rows, &ConfigurationFigures::latency)) {
    chart.panels.push_back(barPanel(tr("Bench"), axis(tr("median time per token"), QStringLiteral("ms")), *rows, &ConfigurationFigures::latency));
    chart.notes << comparisonNotes(*rows);
    const RunList more = runsOf(*rows);
    used.insert(used.end(), more.begin(), more.end());
  }
  if (chart.panels.empty()) return nothing(tr("no run has generated a token"), tr("The latency chart shows runs of the kinds generate and bench."));
  if (!prefills.isEmpty()) chart.caption = tr(" Prefill apart: %1.").arg(prefills.join(QStringLiteral(", ")));
  return chart;
}

Result<Chart> buildMemory(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("Memory");
  struct Series {
    RunSummary run;
    std::vector<storage::MemorySample> samples;
  };
  std::vector<Series> found;
  for (const RunSummary& run : runs) {
    auto samples = session.memory(run.id);
    if (!samples) return fromStorage(samples.error());
    if (!samples->empty()) found.push_back({run, *std::move(samples)});
  }
  if (found.size() != 1) {  // several runs: their peaks side by side
    auto rows = collectFigures(session, runs);
    if (!rows) return rows.error();
    std::erase_if(*rows, [](const auto& r) { return !r.memory; });
    limitTo(*rows, mostRows, chosen, chart);
    if (rows->empty()) return nothing(tr("no run has recorded its memory"), {});
    if (auto done = addMemoryParts(session, *rows); !done) return done.error();
    chart.panels.push_back(memoryPanel(*rows));
    chart.panels.back().title.clear();
    chart.title = tr("Peak memory");
    used = runsOf(*rows);
    return chart;
  }
  Chart::Panel panel;
  panel.kind = Chart::Kind::stackedArea;
  const RunSummary& only = found.front().run;
  panel.x = only.kind == RunKind::evaluate ? axis(tr("window"), {}) : tokenAxis();
  panel.y = axis(tr("memory"), QStringLiteral("B"));
  std::map<std::string, size_t> series;
  std::vector<double> at;
  for (const auto& s : found.front().samples)
    if (at.empty() || static_cast<double>(s.atToken) > at.back()) at.push_back(static_cast<double>(s.atToken));
  if (only.tokens > 0 && static_cast<double>(only.tokens - 1) > at.back()) at.push_back(static_cast<double>(only.tokens - 1));  // stored on change: it held until the end
  for (const char* tag : {"weights", "weights_mapped", "kv", "activations"}) series.emplace(tag, series.size());
  for (const auto& s : found.front().samples) series.emplace(s.tag, series.size());
  panel.series.resize(series.size());
  for (const auto& [tag, index] : series) {
    ChartSeries& s = panel.series[index];
    s.name = memoryTagTitle(tag);
    s.group = tr("memory");
    s.x = at;
    s.y.assign(at.size(), nan);
  }
  for (const auto& s : found.front().samples) {
    const auto position = std::lower_bound(at.begin(), at.end(), static_cast<double>(s.atToken)) - at.begin();
    if (position < static_cast<ptrdiff_t>(at.size())) panel.series[series[s.tag]].y[static_cast<size_t>(position)] = static_cast<double>(s.bytes);
  }
  for (ChartSeries& s : panel.series) {  // a tag not reported again is as it was
    double last = 0;
    for (double& y : s.y) last = y = std::isnan(y) ? last : y;
  }
  std::erase_if(panel.series, [](const ChartSeries& s) { return std::all_of(s.y.begin(), s.y.end(), [](double y) { return y == 0; }); });
  if (auto done = addMarkers(session, found.front().run.id, panel); !done) return done.error();
  chart.panels.push_back(std::move(panel));
  used = {found.front().run};
  return chart;
}

Result<Chart> buildPerplexity(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("Perplexity");
  RunList evaluations;
  for (const RunSummary& run : runs)
    if (run.kind == RunKind::evaluate) evaluations.push_back(run);
  auto rows = collectFigures(session, evaluations);
  if (!rows) return rows.error();
  std::erase_if(*rows, [](const auto& r) { return !r.perplexity; });
  limitTo(*rows, mostRows, chosen, chart);
  if (rows->empty()) return nothing(tr("no run has measured perplexity"), tr("winnow-cli perplexity, or Evaluate in the window, makes one."));
  chart.panels.push_back(barPanel(tr("With 95 % interval"), axis(tr("perplexity"), QStringLiteral("perplexity")), *rows, &ConfigurationFigures::perplexity));
  Chart::Panel running;
  running.title = tr("Estimate while it ran");
  running.x = axis(tr("window"), {});
  running.y = axis(tr("perplexity"), QStringLiteral("perplexity"));
  for (size_t i = 0; i < rows->size() && i < mostLines; ++i) {
    const auto& row = (*rows)[i];
    auto windows = session.windows(row.runs.front().id);
    if (!windows) return fromStorage(windows.error());
    ChartSeries s;
    s.name = row.name;
    double nll = 0, squares = 0;
    int64_t count = 0;
    for (const auto& w : *windows) {
      nll += w.nllSum;
      squares += w.nllSquaredSum;
      count += w.count;
      const PerplexityEstimate e = perplexityOf(nll, squares, count);
      s.x.push_back(w.window + 1);
      s.y.push_back(e.value);
      s.low.push_back(e.value - 1.96 * e.stderror);
      s.high.push_back(e.value + 1.96 * e.stderror);
    }
    if (s.x.size() > 1) running.series.push_back(std::move(s));
  }
  if (!running.series.empty()) chart.panels.push_back(std::move(running));
  chart.notes = comparisonNotes(*rows) + chart.notes;
  used = runsOf(*rows);
  return chart;
}

Result<Chart> buildComparison(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("Comparison");
  auto rows = collectFigures(session, runs);
  if (!rows) return rows.error();
  limitTo(*rows, mostRows, chosen, chart);
  if (anyOf(*rows, &ConfigurationFigures::latency))
    chart.panels.push_back(barPanel(tr("Latency"), axis(tr("median time per token"), QStringLiteral("ms")), *rows, &ConfigurationFigures::latency));
  if (auto done = addMemoryParts(session, *rows); !done) return done.error();
  if (anyOf(*rows, &ConfigurationFigures::memory)) chart.panels.push_back(memoryPanel(*rows));
  if (anyOf(*rows, &ConfigurationFigures::perplexity))
    chart.panels.push_back(barPanel(tr("Perplexity"), axis(tr("perplexity"), QStringLiteral("perplexity")), *rows, &ConfigurationFigures::perplexity));
  if (chart.panels.empty()) return nothing(tr("the runs hold neither latency nor memory nor perplexity"), {});
  chart.notes = comparisonNotes(*rows) + chart.notes;
  used = runsOf(*rows);
  return chart;
}

Result<Chart> buildPareto(storage::SessionFile& session, const RunList& runs, bool, RunList& used) {
  Chart chart;
  chart.title = tr("Speed against quality");
  auto rows = collectFigures(session, runs);
  if (!rows) return rows.error();
  const size_t all = rows->size();
  std::erase_if(*rows, [](const auto& r) { return !r.latency || !r.perplexity; });
  if (rows->empty())
    return nothing(tr("no configuration has both time per token and perplexity"),
                   tr("Run a plan with both an evaluate and a bench or generate experiment."));
  if (rows->size() < all) chart.notes << tr("%1 of %2 configurations have both figures.").arg(rows->size()).arg(all);
  Chart::Panel panel;
  panel.kind = Chart::Kind::scatter;
  panel.x = axis(tr("median time per token"), QStringLiteral("ms"));
  panel.y = axis(tr("perplexity"), QStringLiteral("perplexity"));
  std::sort(rows->begin(), rows->end(), [](const auto& a, const auto& b) {
    return a.latency->value != b.latency->value ? a.latency->value < b.latency->value : a.perplexity->value < b.perplexity->value;
  });
  ChartSeries frontier, dominated;
  frontier.name = tr("frontier");
  dominated.name = tr("dominated");
  double best = std::numeric_limits<double>::infinity();
  for (const auto& row : *rows) {
    const bool leads = row.perplexity->value < best;
    best = std::min(best, row.perplexity->value);
    ChartSeries& s = leads ? frontier : dominated;
    s.x.push_back(row.latency->value);
    s.y.push_back(row.perplexity->value);
    s.low.push_back(row.perplexity->interval ? row.perplexity->interval->low : nan);
    s.high.push_back(row.perplexity->interval ? row.perplexity->interval->high : nan);
    s.labels.push_back(row.name);
  }
  panel.series.push_back(std::move(frontier));
  if (!dominated.x.empty()) panel.series.push_back(std::move(dominated));
  chart.panels.push_back(std::move(panel));
  chart.notes = comparisonNotes(*rows) + chart.notes;
  used = runsOf(*rows);
  return chart;
}

Result<Chart> buildAttribution(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("Context attribution");
  std::vector<std::pair<RunSummary, storage::AttributionRecord>> found;
  for (const RunSummary& run : runs) {
    auto record = session.attribution(run.id);
    if (!record) return fromStorage(record.error());
    if (*record && !(*record)->sources.empty()) found.emplace_back(run, **std::move(record));
  }
  limitTo(found, 1, chosen, chart);
  if (found.empty()) return nothing(tr("no run has attributed an answer to its context"), {});
  for (const auto& [run, record] : found) {
    used.push_back(run);
    Chart::Panel panel;
    panel.kind = Chart::Kind::attribution;
    panel.title = tr("%1: what supports “%2”").arg(runName(run), text(record.response).simplified().left(160));
    panel.x.title = tr("source");
    panel.y = axis(tr("change of log probability without it"), QStringLiteral("nat"));
    ChartSeries s;
    s.name = text(record.method);
    for (const auto& source : record.sources) {
      s.x.push_back(source.id);
      s.y.push_back(source.score.value_or(nan));
      const double reach = source.score && source.standardError ? 1.96 * *source.standardError : nan;
      s.low.push_back(s.y.back() - reach);
      s.high.push_back(s.y.back() + reach);
      s.labels.push_back((source.label.empty() ? QString() : text(source.label) + QStringLiteral(": ")) + text(source.text).simplified());
    }
    if (std::ranges::all_of(s.low, [](double v) { return std::isnan(v); })) s.low = s.high = {};
    panel.series.push_back(std::move(s));
    if (record.noiseFloor > 0) panel.series.push_back({tr("noise"), {}, {0, 1}, {-record.noiseFloor, record.noiseFloor}, {}, {}, {}});
    chart.panels.push_back(std::move(panel));
    if (!record.complete) chart.notes << tr("%1 was stopped early: sources without a bar were not evaluated.").arg(runName(run));
    if (record.noiseFloor > 0) chart.notes << tr("Scores within the grey band (±%1 nat) are noise.").arg(QString::number(record.noiseFloor, 'g', 2));
    for (const std::string& note : record.notes) chart.notes << text(note);
    Chart::Panel heat;
    heat.kind = Chart::Kind::heatmap;
    heat.title = tr("By response token");
    heat.x = axis(tr("response token"), QStringLiteral("token"));
    heat.y = axis(tr("source"), QStringLiteral("nat"));
    for (const auto& source : record.sources)
      if (!source.perToken.empty()) {
        heat.cells.push_back(source.perToken);
        heat.y.categories << text(source.text).simplified();
      }
    if (found.size() == 1 && !heat.cells.empty()) chart.panels.push_back(std::move(heat));
  }
  if (found.size() == 2) addDifference(found[0].second, found[1].second, chart);
  return chart;
}

Result<Chart> buildCache(storage::SessionFile& session, const RunList& runs, bool chosen, RunList& used) {
  Chart chart;
  chart.title = tr("KV cache");
  auto sampled = withTokens(session, runs);
  if (!sampled) return sampled.error();
  std::erase_if(*sampled, [](const Sampled& s) { return std::none_of(s.tokens.begin(), s.tokens.end(), [](const auto& t) { return t.kvLive > 0; }); });
  limitTo(*sampled, mostLines, chosen, chart);
  if (sampled->empty()) return nothing(tr("no run has recorded its cache"), {});
  Chart::Panel live, bytes;
  live.title = tr("Tokens kept per head");
  live.x = bytes.x = tokenAxis();
  live.y = axis(tr("live tokens"), QStringLiteral("token"));
  bytes.title = tr("Bytes");
  bytes.y = axis(tr("cache"), QStringLiteral("B"));
  bool anyBytes = false;
  for (const Sampled& s : *sampled) {
    ChartSeries tokens, size;
    tokens.name = size.name = runName(s.run);
    for (const auto& t : s.tokens) {
      if (t.kvLive <= 0) continue;
      tokens.x.push_back(static_cast<double>(t.index));
      tokens.y.push_back(static_cast<double>(t.kvLive));
      size.x.push_back(static_cast<double>(t.index));
      size.y.push_back(static_cast<double>(t.kvBytes));
      anyBytes |= t.kvBytes > 0;
    }
    live.series.push_back(std::move(tokens));
    bytes.series.push_back(std::move(size));
  }
  if (sampled->size() == 1)
    for (Chart::Panel* panel : {&live, &bytes})
      if (auto done = addMarkers(session, sampled->front().run.id, *panel); !done) return done.error();
  chart.panels.push_back(std::move(live));
  if (anyBytes) chart.panels.push_back(std::move(bytes));
  used = runsOf(*sampled);
  return chart;
}

}  // namespace winnow
