// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/comparison.h"

#include <QCoreApplication>
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace winnow {
namespace {

constexpr double smallestShare = 0.01;

QString tr(const char* s) { return QCoreApplication::translate("winnow::Comparison", s); }

struct Words {
  const char *better, *worse;
};
constexpr Words timeWords{QT_TRANSLATE_NOOP("winnow::Comparison", "faster"), QT_TRANSLATE_NOOP("winnow::Comparison", "slower")};
constexpr Words memoryWords{QT_TRANSLATE_NOOP("winnow::Comparison", "less"), QT_TRANSLATE_NOOP("winnow::Comparison", "more")};
constexpr Words qualityWords{QT_TRANSLATE_NOOP("winnow::Comparison", "better"), QT_TRANSLATE_NOOP("winnow::Comparison", "worse")};

Result<std::vector<double>> timesOf(storage::SessionFile& session, const ConfigurationFigures& row) {
  std::vector<double> ms;
  const auto kind = row.latency && row.latency->protocol == QLatin1String("generate") ? storage::RunKind::generate : storage::RunKind::bench;
  for (const auto& run : row.runs) {
    if (run.kind != kind) continue;
    auto more = latencySamples(session, run);
    if (!more) return more.error();
    ms.insert(ms.end(), more->begin(), more->end());
  }
  return ms;
}

// Mean NLL of each window, by its number.
Result<std::map<int, double>> windowsOf(storage::SessionFile& session, const ConfigurationFigures& row) {
  std::map<int, double> out;
  for (const auto& run : row.runs) {
    if (run.kind != storage::RunKind::evaluate || !out.empty()) continue;
    auto windows = session.windows(run.id);
    if (!windows) return fromStorage(windows.error());
    for (const auto& w : *windows)
      if (w.count > 0) out[w.window] = w.nllSum / w.count;
  }
  return out;
}

double normalTail(double z) { return std::erfc(std::fabs(z) / std::sqrt(2.0)); }  // two-sided

struct Pending {  // a change waiting for the correction over the whole table
  MetricChange* change;
  Shift shift;
  double scale;  // what a share of 1 is
  const Words* words;
  double p() const {
    const double se = (shift.interval.high - shift.interval.low) / (2 * 1.96);
    if (se <= 0) return shift.value == 0 ? 1 : 0;
    return normalTail(shift.value / se);
  }
};

void settle(std::vector<Pending>& pending) {
  std::vector<double> p;
  for (const Pending& item : pending) p.push_back(item.p());
  const std::vector<bool> real = holm(p);
  for (size_t i = 0; i < pending.size(); ++i) {
    Verdict v = verdictOf(pending[i].scale, pending[i].shift, smallestShare);
    if (!real[i] && v != Verdict::notComparable) v = Verdict::withinNoise;
    pending[i].change->verdict = v;
    pending[i].change->words = v == Verdict::better ? tr(pending[i].words->better) : v == Verdict::worse ? tr(pending[i].words->worse) : tr("within noise");
  }
}

QString difference(const ComparisonRow& a, const ComparisonRow& b) {
  const auto &x = a.figures.runs.front(), &y = b.figures.runs.front();
  if (x.model != y.model || x.modelPath != y.modelPath) return tr("not comparable: model");
  return {};
}

Status compareTime(storage::SessionFile& session, const ComparisonRow& base, ComparisonRow& row, std::vector<Pending>& pending) {
  MetricChange& change = row.latency;
  if (!base.figures.latency || !row.figures.latency) return Done{};
  const auto &x = base.figures.runs.front(), &y = row.figures.runs.front();
  change.words = difference(base, row);
  if (change.words.isEmpty() && (x.device != y.device || x.threads != y.threads)) change.words = tr("not comparable: device");
  if (change.words.isEmpty() && base.figures.latency->protocol != row.figures.latency->protocol) change.words = tr("not comparable: protocol");
  if (!change.words.isEmpty()) return Done{};
  change.ratio = row.figures.latency->value / base.figures.latency->value;
  auto before = timesOf(session, base.figures);
  if (!before) return before.error();
  auto after = timesOf(session, row.figures);
  if (!after) return after.error();
  const auto shift = shiftBetween(*before, *after);
  if (!shift) {
    change.words = tr("too few measurements to tell");
    return Done{};
  }
  const double scale = base.figures.latency->value;
  change.interval = Interval{1 + shift->interval.low / scale, 1 + shift->interval.high / scale};
  pending.push_back({&change, *shift, scale, &timeWords});
  return Done{};
}

void compareMemory(const ComparisonRow& base, ComparisonRow& row) {
  if (!base.figures.memory || !row.figures.memory || base.figures.memory->value <= 0) return;
  MetricChange& change = row.memory;
  change.words = difference(base, row);
  if (!change.words.isEmpty()) return;
  change.ratio = row.figures.memory->value / base.figures.memory->value;
  change.verdict = std::fabs(change.ratio - 1) < smallestShare ? Verdict::withinNoise : change.ratio < 1 ? Verdict::better : Verdict::worse;
  change.words = change.verdict == Verdict::withinNoise ? tr("the same within 1 %") : tr(change.ratio < 1 ? memoryWords.better : memoryWords.worse);
}

Status compareQuality(storage::SessionFile& session, const ComparisonRow& base, ComparisonRow& row, std::vector<Pending>& pending) {
  if (!base.figures.perplexity || !row.figures.perplexity) return Done{};
  MetricChange& change = row.perplexity;
  change.words = difference(base, row);
  if (change.words.isEmpty() && base.figures.perplexity->protocol != row.figures.perplexity->protocol) change.words = tr("not comparable: protocol");
  if (!change.words.isEmpty()) return Done{};
  change.ratio = row.figures.perplexity->value / base.figures.perplexity->value;
  auto before = windowsOf(session, base.figures);
  if (!before) return before.error();
  auto after = windowsOf(session, row.figures);
  if (!after) return after.error();
  std::vector<double> paired;
  for (const auto& [window, nll] : *after)
    if (const auto it = before->find(window); it != before->end()) paired.push_back(nll - it->second);
  const auto interval = blockBootstrapMean(paired, 4);
  if (!interval || paired.size() < 4) {
    change.words = tr("too few windows to tell");
    return Done{};
  }
  const Shift shift{std::accumulate(paired.begin(), paired.end(), 0.0) / static_cast<double>(paired.size()), *interval};
  change.interval = Interval{std::exp(interval->low), std::exp(interval->high)};
  pending.push_back({&change, shift, 1, &qualityWords});  // a difference of NLL is a share of perplexity
  return Done{};
}

}  // namespace

std::vector<bool> holm(const std::vector<double>& p, double alpha) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<bool> rejected(p.size(), false);
  for (size_t k = 0; k < order.size(); ++k) {
    if (!(p[order[k]] <= alpha / static_cast<double>(p.size() - k))) break;
    rejected[order[k]] = true;
  }
  return rejected;
}

Result<Comparison> compareRuns(storage::SessionFile& session, const std::vector<storage::Id>& ids, std::optional<storage::Id> baseline) {
  auto runs = selectRuns(session, ids);
  if (!runs) return runs.error();
  auto figures = collectFigures(session, *runs);
  if (!figures) return figures.error();
  if (figures->empty())
    return Error{ErrorCode::badInput, "There is nothing to compare: the runs hold neither latency nor memory nor perplexity.", {}};
  Comparison out;
  out.notes = comparisonNotes(*figures);
  size_t base = 0;
  bool named = false;
  for (size_t i = 0; i < figures->size(); ++i) {
    const ConfigurationFigures& f = (*figures)[i];
    const bool asked = baseline && std::any_of(f.runs.begin(), f.runs.end(), [&](const auto& r) { return r.id == *baseline; });
    if (asked || (!named && f.baseline)) base = i, named = true;
    if (asked) break;
  }
  for (ConfigurationFigures& f : *figures) out.rows.push_back({std::move(f), false, {}, {}, {}});
  std::vector<Pending> pending;
  for (size_t i = 0; i < out.rows.size(); ++i) {
    ComparisonRow& row = out.rows[i];
    row.latency.figure = row.figures.latency;
    row.memory.figure = row.figures.memory;
    row.perplexity.figure = row.figures.perplexity;
    if (i == base) {
      row.baseline = true;
      for (MetricChange* change : {&row.latency, &row.memory, &row.perplexity})
        if (change->figure) change->words = tr("baseline");
      continue;
    }
    if (auto done = compareTime(session, out.rows[base], row, pending); !done) return done.error();
    compareMemory(out.rows[base], row);
    if (auto done = compareQuality(session, out.rows[base], row, pending); !done) return done.error();
  }
  settle(pending);
  return out;
}

}  // namespace winnow
