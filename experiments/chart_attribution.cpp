// SPDX-License-Identifier: GPL-3.0-or-later
// Attributions of many questions, by several methods: how well each agrees with exact leave-one-out, and what it saves.
#include <QCoreApplication>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "engine/attribute/agreement.h"
#include "experiments/attribution_record.h"
#include "experiments/chart_builders.h"

namespace winnow {
namespace {

using storage::RunSummary;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kTop = 3;

QString tr(const char* s) { return QCoreApplication::translate("winnow::Charts", s); }

struct Attributed {
  RunSummary run;
  storage::AttributionRecord record;
};

// One question of one model under one configuration; runs of it differ in their method.
std::string questionOf(const Attributed& a) {
  std::string key = a.run.modelPath + '\n' + a.record.unit;
  for (const auto& [name, value] : a.run.effective) key += '\n' + name + '=' + value;
  for (const int32_t token : a.record.responseTokens) key += '\n' + std::to_string(token);
  return key + '\n' + a.record.context + '\n' + a.record.question;
}

// The truth: every source left out of the whole context, by the model itself.
bool isExact(const storage::AttributionRecord& r) {
  const bool whole = r.method == "loo" || (r.method == "attribot" && r.proxy.empty() && r.levelsJson == "[]");
  return whole && r.complete && std::ranges::all_of(r.sources, [](const auto& s) { return s.score.has_value(); });
}

struct Means {
  std::vector<double> precision, spearman, top, tokens, time;  // [questions]
  static double mean(const std::vector<double>& values) {
    double total = 0;
    for (const double value : values) total += value;
    return total / static_cast<double>(values.size());
  }
  static double error(const std::vector<double>& values) {
    if (values.size() < 2) return kNan;
    const double middle = mean(values);
    double squares = 0;
    for (const double value : values) squares += (value - middle) * (value - middle);
    return std::sqrt(squares / static_cast<double>(values.size() - 1) / static_cast<double>(values.size()));
  }
};

std::vector<double> scoresOfRecord(const storage::AttributionRecord& record) { return scoresOf(attributionResult(record).sources); }

void compare(Means& to, const Attributed& exact, const Attributed& other) {
  const std::vector<double> truth = scoresOfRecord(exact.record), scores = scoresOfRecord(other.record);
  to.precision.push_back(averagePrecision(outliers(truth), scores));
  to.spearman.push_back(spearman(truth, scores));
  to.top.push_back(topOverlap(truth, scores, std::min(kTop, truth.size())));
  to.tokens.push_back(exact.record.parameterTokens / std::max(other.record.parameterTokens, 1.0));
  to.time.push_back(static_cast<double>(exact.record.wallNs) / static_cast<double>(std::max<int64_t>(other.record.wallNs, 1)));
}

struct Point {
  QString label;
  double x, y, error;
};

// What nothing else beats in both, and the rest; the fastest first.
Chart::Panel scatter(const QString& title, const ChartAxis& x, const ChartAxis& y, std::vector<Point> points) {
  Chart::Panel panel;
  panel.kind = Chart::Kind::scatter;
  panel.title = title;
  panel.x = x;
  panel.y = y;
  std::ranges::stable_sort(points, [](const Point& a, const Point& b) { return std::tuple(-a.x, -a.y) < std::tuple(-b.x, -b.y); });
  ChartSeries frontier, dominated;
  frontier.name = tr("frontier");
  dominated.name = tr("dominated");
  double best = -std::numeric_limits<double>::infinity();
  for (const Point& point : points) {
    const bool leads = point.y > best;
    best = std::max(best, point.y);
    ChartSeries& series = leads ? frontier : dominated;
    series.x.push_back(point.x);
    series.y.push_back(point.y);
    series.low.push_back(point.y - 1.96 * point.error);
    series.high.push_back(point.y + 1.96 * point.error);
    series.labels.push_back(point.label);
  }
  panel.series.push_back(std::move(frontier));
  if (!dominated.x.empty()) panel.series.push_back(std::move(dominated));
  return panel;
}

using Questions = std::map<std::string, std::vector<Attributed>>;

Result<Questions> questionsOf(storage::SessionFile& session, const RunList& runs) {
  Questions questions;
  for (const RunSummary& run : runs) {
    if (run.kind != storage::RunKind::attribute) continue;
    auto record = session.attribution(run.id);
    if (!record) return fromStorage(record.error());
    if (!*record || (*record)->sources.empty() || (*record)->responseTokens.empty()) continue;
    Attributed one{run, **std::move(record)};
    questions[questionOf(one)].push_back(std::move(one));
  }
  return questions;
}

}  // namespace

Result<Chart> buildAttributionPareto(storage::SessionFile& session, const RunList& runs, bool, RunList& used) {
  Chart chart;
  chart.title = tr("Attribution: agreement with exact leave-one-out against what is saved");
  auto questions = questionsOf(session, runs);
  if (!questions) return questions.error();
  std::map<std::string, Means> methods;  // by protocol
  size_t asked = 0, dropped = 0, sources = 0, resumed = 0;
  for (const auto& [key, all] : *questions) {
    const auto exact = std::ranges::max_element(all, {}, [](const Attributed& a) { return std::pair(isExact(a.record), a.record.method == "loo"); });
    if (!isExact(exact->record) || exact->record.knownForwards > 0 || all.size() < 2) continue;
    ++asked;
    dropped += static_cast<size_t>(exact->record.dropped);
    sources += exact->record.sources.size();
    for (const Attributed& one : all) {
      used.push_back(one.run);
      resumed += one.record.knownForwards > 0;
      if (&one != &*exact && one.record.knownForwards == 0) compare(methods[one.run.protocol], *exact, one);
    }
  }
  if (methods.empty())
    return Error{ErrorCode::badInput, tr("There is nothing to chart: no question was attributed both exactly and by another method.").toStdString(),
                 tr("Run a plan with the method loo and others over one set, such as plans/attribution-pareto.json.").toStdString()};
  std::vector<Point> precision, ranks, top, time;
  for (const auto& [name, means] : methods) {
    const QString label = QString::fromStdString(name);
    const double tokens = Means::mean(means.tokens), clock = Means::mean(means.time);
    precision.push_back({label, tokens, Means::mean(means.precision), Means::error(means.precision)});
    ranks.push_back({label, tokens, Means::mean(means.spearman), Means::error(means.spearman)});
    top.push_back({label, tokens, Means::mean(means.top), Means::error(means.top)});
    time.push_back({label, clock, Means::mean(means.precision), Means::error(means.precision)});
  }
  const ChartAxis saved{tr("parameter-weighted tokens saved"), QStringLiteral("×"), true, {}}, sooner{tr("time saved"), QStringLiteral("×"), true, {}};
  const auto share = [](const QString& title) { return ChartAxis{title, {}, false, {}}; };
  chart.panels.push_back(scatter(tr("Outliers found"), saved, share(tr("mean average precision")), std::move(precision)));
  chart.panels.push_back(scatter(tr("Outliers found, by time"), sooner, share(tr("mean average precision")), std::move(time)));
  chart.panels.push_back(scatter(tr("Whole ranking"), saved, share(tr("Spearman")), std::move(ranks)));
  chart.panels.push_back(scatter(tr("The best three"), saved, share(tr("share in common")), std::move(top)));
  chart.notes << tr("%1 questions of %2 sources each; %3 passages did not fit the model's context.").arg(asked).arg(static_cast<double>(sources) / static_cast<double>(asked), 0, 'f', 1).arg(dropped);
  if (resumed > 0) chart.notes << tr("%1 runs went on from others that were stopped: what they cost is not known, and they are left out.").arg(resumed);
  chart.notes << tr("Relevant sources are those more than 2 standard deviations above the mean of the exact scores, else the best one. Bars are 95 % intervals over the questions.");
  return chart;
}

}  // namespace winnow
