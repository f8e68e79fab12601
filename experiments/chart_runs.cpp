// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/chart_runs.h"

#include <QCoreApplication>
#include <QDateTime>
#include <QFileInfo>
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace winnow {
namespace {

using storage::Metric;
using storage::RunKind;
using storage::RunStatus;
using storage::RunSummary;

QString text(const std::string& s) { return QString::fromStdString(s); }
QString tr(const char* s) { return QCoreApplication::translate("winnow::Charts", s); }

const Metric* metricOf(const RunSummary& run, const char* name) {
  const auto it = run.metrics.find(name);
  return it == run.metrics.end() || !std::isfinite(it->second.value) ? nullptr : &it->second;
}

std::optional<Interval> intervalOf(const Metric& metric) {
  if (!metric.ciLow || !metric.ciHigh || !std::isfinite(*metric.ciLow) || !std::isfinite(*metric.ciHigh)) return std::nullopt;
  return Interval{*metric.ciLow, *metric.ciHigh};
}

Figure fromSummary(const Summary& s, const QString& protocol) { return {s.p50, s.p50Interval, s.n, protocol}; }

// Repeats of one configuration: the mean of their medians, with the interval of that mean.
Figure combine(const std::vector<Figure>& figures) {
  if (figures.size() == 1) return figures.front();
  std::vector<double> values;
  Figure out = figures.front();
  out.n = 0;
  double sum = 0;
  for (const Figure& f : figures) {
    values.push_back(f.value);
    sum += f.value;
    out.n += f.n;
  }
  out.value = sum / static_cast<double>(values.size());
  out.interval = values.size() >= 3 ? bootstrapMean(values) : std::nullopt;
  if (!out.interval)  // too few for a bootstrap: as wide as both single intervals
    for (const Figure& f : figures)
      if (f.interval)
        out.interval = out.interval ? Interval{std::min(out.interval->low, f.interval->low), std::max(out.interval->high, f.interval->high)} : *f.interval;
  return out;
}

std::string identity(const RunSummary& run) {
  std::string key = run.model + '\n' + run.modelPath + '\n' + run.device + '\n' + run.threads;
  for (const auto& [name, value] : run.effective) key += '\n' + name + '=' + value;
  return key;
}

struct Group {
  std::string key;
  ConfigurationFigures row;
  std::vector<Figure> latencies, perplexities;
  bool latencyFromBench = false;
};

bool samePoint(const Group& g, const RunSummary& run) { return run.sweep && g.row.runs.front().sweep == run.sweep; }

bool fits(const Group& g, const RunSummary& run, const std::optional<Figure>& latency, const std::optional<Figure>& perplexity) {
  if (g.key != identity(run)) return false;
  if (perplexity && !g.perplexities.empty() && g.perplexities.front().protocol != perplexity->protocol) return false;
  if (samePoint(g, run)) return true;
  return !(latency && !g.latencies.empty()) && !(perplexity && !g.perplexities.empty()) && (latency || perplexity);
}

void addTo(Group& g, const RunSummary& run, const std::optional<Figure>& latency, const std::optional<Figure>& perplexity) {
  g.row.runs.push_back(run);
  g.row.baseline |= run.baseline;
  if (perplexity) g.perplexities.push_back(*perplexity);
  if (latency) {
    const bool bench = run.kind == RunKind::bench;  // follows a protocol: it wins over what a generation happened to take
    if (bench && !g.latencyFromBench) g.latencies.clear();
    if (bench || !g.latencyFromBench) g.latencies.push_back(*latency);
    g.latencyFromBench |= bench;
  }
  if (const Metric* memory = metricOf(run, "memory_peak"); memory && (!g.row.memory || memory->value > g.row.memory->value))
    g.row.memory = Figure{memory->value, std::nullopt, 1, {}};
}

// The composition at the moment the total was largest.
Status addMemory(storage::SessionFile& session, ConfigurationFigures& row) {
  double best = 0;
  for (const RunSummary& run : row.runs) {
    auto samples = session.memory(run.id);
    if (!samples) return fromStorage(samples.error());
    std::map<std::string, int64_t> now;
    int64_t at = -1;
    const auto look = [&] {
      double sum = 0;
      for (const auto& [tag, bytes] : now) sum += static_cast<double>(bytes);
      if (sum <= best) return;
      best = sum;
      row.memoryByTag.clear();
      for (const auto& [tag, bytes] : now)
        if (bytes > 0) row.memoryByTag.emplace_back(memoryTagTitle(tag), static_cast<double>(bytes));
    };
    for (const auto& sample : *samples) {
      if (sample.atToken != at) look();
      at = sample.atToken;
      now[sample.tag] = sample.bytes;
    }
    look();
  }
  if (best > 0 && !row.memory) row.memory = Figure{best, std::nullopt, 1, {}};
  return Done{};
}

// Names from the knobs that differ among the rows; a switch ("weights.method") that only repeats its figure is left out.
void nameRows(std::vector<Group>& groups) {
  std::map<std::string, std::set<std::string>> values;
  for (const Group& g : groups)
    for (const auto& [name, value] : g.row.runs.front().effective) values[name].insert(value);
  const auto differs = [&](const std::string& name) {
    const size_t with = static_cast<size_t>(
        std::count_if(groups.begin(), groups.end(), [&](const Group& g) { return g.row.runs.front().effective.count(name) > 0; }));
    return values[name].size() > 1 || with < groups.size();
  };
  const auto implied = [&](const std::string& name) {
    static const std::map<std::string, std::string> figures = {
        {"weights.method", "weights.bits"}, {"prune.method", "prune.ratio"}, {"kv.policy", "kv.budget"}, {"share.method", "share.block"}};
    const auto it = figures.find(name);
    return it != figures.end() && values.count(it->second) > 0 && values[name].size() <= 1;
  };
  for (Group& g : groups) {
    const bool same = std::all_of(g.row.runs.begin(), g.row.runs.end(), [&](const RunSummary& r) { return r.name == g.row.runs.front().name; });
    if (same && !g.row.runs.front().name.empty()) {
      g.row.name = text(g.row.runs.front().name);
      continue;
    }
    QStringList parts;
    for (const auto& [name, value] : g.row.runs.front().effective)
      if ((differs(name) || groups.size() == 1) && !implied(name)) parts << text(name) + u' ' + text(value);
    const bool othersDiffer = std::any_of(values.begin(), values.end(), [&](const auto& v) { return differs(v.first); });
    g.row.name = !parts.isEmpty() ? parts.join(QStringLiteral(" · ")) : othersDiffer ? tr("defaults") : runName(g.row.runs.front());
  }
  std::map<QString, int> seen;  // equal names get the run's number
  for (const Group& g : groups) ++seen[g.row.name];
  for (Group& g : groups)
    if (seen[g.row.name] > 1) g.row.name += QStringLiteral(" #%1").arg(g.row.runs.front().id);
}

QString settings(const std::map<std::string, std::string>& config) {
  if (config.empty()) return tr("every knob at its default");
  QStringList parts;
  for (const auto& [name, value] : config) parts << text(name) + u'=' + text(value);
  return parts.join(u' ');
}

}  // namespace

Error fromStorage(const storage::Error& error) {
  using enum storage::Problem;
  const bool unusable = error.problem == notASession || error.problem == newer || error.problem == damaged || error.problem == notFound;
  return {unusable ? ErrorCode::badInput : ErrorCode::failed, error.message + ".", error.hint};
}

QString runName(const RunSummary& run) {
  if (!run.name.empty()) return text(run.name);
  return QStringLiteral("%1 %2").arg(QString::fromUtf8(runKindName(run.kind).data(), static_cast<qsizetype>(runKindName(run.kind).size()))).arg(run.id);
}

QString memoryTagTitle(const std::string& tag) {
  if (tag == "weights_mapped" || tag == "weightsMapped") return tr("weights, mapped");
  if (tag == "prefill_twin") return tr("prefill twin");
  if (tag == "kv") return tr("KV cache");
  return text(tag);
}

Result<std::vector<RunSummary>> selectRuns(storage::SessionFile& session, const std::vector<storage::Id>& ids) {
  std::vector<RunSummary> chosen;
  if (!ids.empty()) {
    std::set<storage::Id> once;
    for (const storage::Id id : ids) {
      if (!once.insert(id).second) continue;
      auto run = session.run(id);
      if (!run)
        return Error{ErrorCode::usage, "There is no run " + std::to_string(id) + " in " + session.path() + ".",
                     "winnow-cli sessions FILE lists the runs with their numbers."};
      chosen.push_back(*std::move(run));
    }
    return chosen;
  }
  auto all = session.runs();
  if (!all) return fromStorage(all.error());
  for (RunSummary& run : *all)
    if (run.status == RunStatus::done || run.status == RunStatus::cancelled || run.status == RunStatus::interrupted) chosen.push_back(std::move(run));
  std::sort(chosen.begin(), chosen.end(), [](const RunSummary& a, const RunSummary& b) { return a.baseline != b.baseline ? a.baseline : a.id < b.id; });
  return chosen;
}

namespace {

// The first generation test of a bench: others are at other lengths or depths.
Result<std::string> firstDecodeTest(storage::SessionFile& session, const RunSummary& run) {
  const auto samples = session.bench(run.id);
  if (!samples) return fromStorage(samples.error());
  for (const auto& s : *samples)
    if (s.test.starts_with("tg") && s.tokens > 0) return s.test;
  return std::string();
}

}  // namespace

Result<std::vector<double>> latencySamples(storage::SessionFile& session, const RunSummary& run) {
  std::vector<double> ms;
  if (run.kind == RunKind::generate) {
    auto tokens = session.tokens(run.id);
    if (!tokens) return fromStorage(tokens.error());
    for (const auto& t : *tokens)
      if (!t.prefill && t.durationNs > 0) ms.push_back(static_cast<double>(t.durationNs) / 1e6);
  } else if (run.kind == RunKind::bench) {
    auto samples = session.bench(run.id);
    if (!samples) return fromStorage(samples.error());
    const auto test = firstDecodeTest(session, run);
    if (!test) return test.error();
    for (const auto& s : *samples)
      if (s.test == *test && s.tokens > 0) ms.push_back(1000 * s.seconds / s.tokens);
  }
  return ms;
}

Result<std::optional<Figure>> latencyOf(storage::SessionFile& session, const RunSummary& run) {
  const bool bench = run.kind == RunKind::bench;
  if (!bench && run.kind != RunKind::generate) return std::optional<Figure>();
  QString protocol = QStringLiteral("generate");
  if (bench) {
    const auto test = firstDecodeTest(session, run);
    if (!test) return test.error();
    protocol = text(run.protocol.empty() ? "bench" : run.protocol);
    if (!test->empty()) protocol = text(*test) + QLatin1Char(' ') + protocol;
  }
  const Metric* metric = metricOf(run, "ms_per_token");
  if (metric && intervalOf(*metric)) return std::optional<Figure>(Figure{metric->p50.value_or(metric->value), intervalOf(*metric), metric->n, protocol});
  auto ms = latencySamples(session, run);
  if (!ms) return ms.error();
  if (ms->empty() && !metric) return std::optional<Figure>();
  Figure figure = fromSummary(summarize(*ms), protocol);
  if (!figure.interval && ms->size() >= 3) figure.interval = bootstrapMean(*ms);  // a bench has few repetitions
  if (metric) {  // its figure is the one shown elsewhere; the interval is widened to hold it
    figure.value = metric->p50.value_or(metric->value);
    figure.n = std::max(figure.n, metric->n);
    if (figure.interval) figure.interval = Interval{std::min(figure.interval->low, figure.value), std::max(figure.interval->high, figure.value)};
  }
  return std::optional<Figure>(figure);
}

Result<std::optional<Figure>> perplexityOf(storage::SessionFile& session, const RunSummary& run) {
  if (run.kind != RunKind::evaluate) return std::optional<Figure>();
  QString protocol = text(run.protocol);
  protocol.remove(QStringLiteral(" stepwise"));  // the same predictions, fed one by one so that a cache policy can act
  if (!run.corpus.empty()) protocol += (protocol.isEmpty() ? QString() : QStringLiteral(", ")) + text(run.corpus);
  if (const Metric* metric = metricOf(run, "perplexity"); metric && intervalOf(*metric))
    return std::optional<Figure>(Figure{metric->value, intervalOf(*metric), metric->n, protocol});
  auto windows = session.windows(run.id);
  if (!windows) return fromStorage(windows.error());
  double nll = 0, squares = 0;
  int64_t count = 0;
  for (const auto& w : *windows) {
    nll += w.nllSum;
    squares += w.nllSquaredSum;
    count += w.count;
  }
  if (count > 0) {
    const PerplexityEstimate e = perplexityOf(nll, squares, count);
    return std::optional<Figure>(Figure{e.value, Interval{e.value - 1.96 * e.stderror, e.value + 1.96 * e.stderror}, count, protocol});
  }
  if (const Metric* metric = metricOf(run, "perplexity")) return std::optional<Figure>(Figure{metric->value, intervalOf(*metric), metric->n, protocol});
  return std::optional<Figure>();
}

Result<std::vector<ConfigurationFigures>> collectFigures(storage::SessionFile& session, const std::vector<RunSummary>& runs) {
  std::vector<Group> groups;
  for (const RunSummary& run : runs) {
    auto latency = latencyOf(session, run);
    if (!latency) return latency.error();
    auto perplexity = perplexityOf(session, run);
    if (!perplexity) return perplexity.error();
    if (!*latency && !*perplexity && !metricOf(run, "memory_peak")) continue;
    const auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return fits(g, run, *latency, *perplexity); });
    Group& group = it != groups.end() ? *it : groups.emplace_back(Group{identity(run), {}, {}, {}, false});
    addTo(group, run, *latency, *perplexity);
  }
  nameRows(groups);
  std::vector<ConfigurationFigures> rows;
  for (Group& g : groups) {
    if (!g.latencies.empty()) g.row.latency = combine(g.latencies);
    if (!g.perplexities.empty()) g.row.perplexity = combine(g.perplexities);
    if (!g.row.memory)
      if (auto done = addMemory(session, g.row); !done) return done.error();
    rows.push_back(std::move(g.row));
  }
  return rows;
}

Status addMemoryParts(storage::SessionFile& session, std::vector<ConfigurationFigures>& rows) {
  for (ConfigurationFigures& row : rows)
    if (row.memoryByTag.empty())
      if (auto done = addMemory(session, row); !done) return done;
  return Done{};
}

QStringList comparisonNotes(const std::vector<ConfigurationFigures>& rows) {
  std::set<std::string> models, devices;
  std::set<QString> protocols, tests;
  bool single = false, random = false;
  for (const ConfigurationFigures& row : rows) {
    models.insert(row.runs.front().model + row.runs.front().modelPath);
    random |= row.runs.front().model.starts_with("random-");  // as synthesized models are named
    if (row.latency) {
      devices.insert(row.runs.front().device + row.runs.front().threads);
      tests.insert(row.latency->protocol);
      single |= row.latency->n == 1;
    }
    if (row.perplexity) protocols.insert(row.perplexity->protocol);
  }
  QStringList notes;
  if (random) notes << tr("Random weights: time, memory and the divergence between settings are real; the perplexity is that of no trained model.");
  if (models.size() > 1) notes << tr("Not comparable: the model differs.");
  if (devices.size() > 1) notes << tr("Time is not comparable: the device or its threads differ.");
  if (tests.size() > 1) notes << tr("Time is not comparable: measured by %1.").arg(QStringList(tests.begin(), tests.end()).join(tr(" and ")));
  if (protocols.size() > 1) notes << tr("Perplexity is not comparable: %1.").arg(QStringList(protocols.begin(), protocols.end()).join(tr(" against ")));
  if (single) notes << tr("n = 1 for a time: no interval.");
  return notes;
}

QString captionOf(const std::vector<RunSummary>& runs) {
  QStringList names, models, devices, protocols;
  std::optional<int64_t> first, last;
  const auto once = [](QStringList& list, const QString& s) {
    if (!s.isEmpty() && !list.contains(s)) list << s;
  };
  for (const RunSummary& run : runs) {
    if (names.size() < 8) names << (run.name.empty() ? runName(run) : QStringLiteral("%1 (#%2)").arg(text(run.name)).arg(run.id));
    once(models, text(run.model.empty() ? run.modelPath : run.model));
    QString device = text(run.device);
    if (!run.threads.empty() && run.threads != "0" && !device.contains(QStringLiteral("thread"))) device += tr(", %1 threads").arg(text(run.threads));
    once(devices, device);
    once(protocols, run.corpus.empty() ? text(run.protocol) : text(run.protocol + (run.protocol.empty() ? "" : " on ") + run.corpus));
    if (run.startedUs) {
      first = std::min(first.value_or(*run.startedUs), *run.startedUs);
      last = std::max(last.value_or(*run.startedUs), *run.startedUs);
    }
  }
  if (runs.size() > 8) names << tr("and %1 more").arg(runs.size() - 8);
  QStringList parts{tr("Runs: %1").arg(names.join(QStringLiteral(", ")))};
  if (!models.isEmpty()) parts << tr("Model: %1").arg(models.join(QStringLiteral(", ")));
  if (!devices.isEmpty()) parts << tr("Device: %1").arg(devices.join(QStringLiteral(", ")));
  if (!protocols.isEmpty()) parts << tr("Protocol: %1").arg(protocols.join(QStringLiteral(", ")));
  const auto day = [](int64_t us) { return QDateTime::fromMSecsSinceEpoch(us / 1000, Qt::UTC); };
  if (first) {
    QString date = day(*first).toString(QStringLiteral("yyyy-MM-dd HH:mm"));
    if (day(*last).date() != day(*first).date()) date += QStringLiteral(" – ") + day(*last).toString(QStringLiteral("yyyy-MM-dd HH:mm"));
    parts << date + QStringLiteral(" UTC");
  }
  return parts.join(QStringLiteral(". ")) + u'.';
}

std::vector<std::pair<QString, QString>> reproducibilityOf(storage::SessionFile& session, const std::vector<RunSummary>& runs) {
  std::vector<std::pair<QString, QString>> out;
  out.emplace_back(tr("Session"), QFileInfo(text(session.path())).fileName());
  QStringList machines, programs;
  for (const RunSummary& run : runs) {
    QStringList lines{QStringLiteral("%1 · %2").arg(text(run.uuid), text(std::string(runStatusName(run.status))))};
    lines << tr("model %1, %2").arg(text(run.model), text(run.modelPath));
    lines << tr("asked for: %1").arg(settings(run.requested));
    if (run.requested != run.effective) lines << tr("ran with: %1").arg(settings(run.effective));
    lines << tr("seed %1, repeat %2").arg(run.seed).arg(run.repeat);
    out.emplace_back(tr("Run %1, %2").arg(run.id).arg(runName(run)), lines.join(u'\n'));
    auto e = session.environment(run.id);
    if (!e) continue;  // a run without a machine record is still worth its row
    const QString machine = tr("%1, %2 cores, %3 GiB, %4 %5").arg(text(e->cpuModel)).arg(e->coresPhysical).arg(static_cast<double>(e->ramBytes) / 1073741824.0, 0, 'f', 1).arg(text(e->os), text(e->kernel));
    const QString program = QStringLiteral("Winnow %1 (%2), %3, %4").arg(text(e->appVersion), text(e->sourceRevision), text(e->compiler), text(e->buildFlags));
    if (!machines.contains(machine)) machines << machine;
    if (!programs.contains(program)) programs << program;
  }
  if (!machines.isEmpty()) out.emplace_back(tr("Machine"), machines.join(u'\n'));
  if (!programs.isEmpty()) out.emplace_back(tr("Measured by"), programs.join(u'\n'));
  return out;
}

}  // namespace winnow
