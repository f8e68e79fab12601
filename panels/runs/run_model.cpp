// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/runs/run_model.h"

#include <QDateTime>
#include <QFileInfo>
#include <algorithm>
#include <cmath>
#include <set>

#include "experiments/format.h"
#include "experiments/implied.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

struct KnownMetric {
  const char* name;
  const char* title;
  bool difference = false;  // gets a column against the baseline
};
// In this order; metrics not named here follow by name.
constexpr KnownMetric kMetrics[] = {
    {"ms_per_token", QT_TRANSLATE_NOOP("RunModel", "ms/token"), true},
    {"tokens_per_second", QT_TRANSLATE_NOOP("RunModel", "Rate")},
    {"prefill_ms", QT_TRANSLATE_NOOP("RunModel", "Prefill")},
    {"prefill_tokens_per_second", QT_TRANSLATE_NOOP("RunModel", "Prefill rate")},
    {"roofline_share", QT_TRANSLATE_NOOP("RunModel", "Roofline")},
    {"perplexity", QT_TRANSLATE_NOOP("RunModel", "Perplexity"), true},
    {"bits_per_byte", QT_TRANSLATE_NOOP("RunModel", "Bits/byte")},
    {"kld_mean", QT_TRANSLATE_NOOP("RunModel", "KL divergence")},
    {"kld_p99", QT_TRANSLATE_NOOP("RunModel", "KLD 99 %")},
    {"top1", QT_TRANSLATE_NOOP("RunModel", "Same top")},
    {"memory_peak", QT_TRANSLATE_NOOP("RunModel", "Memory"), true},
};

int metricRank(const std::string& name) {
  for (size_t i = 0; i < std::size(kMetrics); ++i)
    if (name == kMetrics[i].name) return static_cast<int>(i);
  return 1000;
}

QString text(const std::string& s) { return QString::fromStdString(s); }

QString settingOf(const storage::RunSummary& run, const std::string& knob) {
  const auto found = run.effective.find(knob);
  if (found != run.effective.end()) return text(found->second);
  const Knob* declared = Schema::instance().find(knob);
  return declared ? text(toText(declared->defaultValue)) : QString();
}

// The value follows from the run's other knobs: no column of its own.
bool impliedIn(const storage::RunSummary& run, const std::string& knob) {
  Config config;
  for (const auto& [name, value] : run.effective) {
    const auto with = config.parsed(name, value);
    if (!with) return false;
    config = *with;
  }
  return Schema::instance().find(knob) && follows(config, knob, config.get(knob));
}

std::optional<double> halfWidth(const storage::Metric& metric) {
  if (metric.ciLow && metric.ciHigh) return (*metric.ciHigh - *metric.ciLow) / 2;
  if (metric.sd && metric.n > 1) return 1.96 * *metric.sd / std::sqrt(static_cast<double>(metric.n));
  return std::nullopt;
}

}  // namespace

RunDelta compareRuns(const storage::RunSummary& run, const storage::RunSummary& baseline, const std::string& name) {
  RunDelta delta;
  const auto mine = run.metrics.find(name), theirs = baseline.metrics.find(name);
  if (mine == run.metrics.end() || theirs == baseline.metrics.end() || run.id == baseline.id || theirs->second.value == 0) return delta;
  const storage::Metric& a = theirs->second;
  const storage::Metric& b = mine->second;
  const auto refuse = [&](const QString& why) {
    delta.verdict = RunDelta::Verdict::notComparable;
    delta.why = why;
    return delta;
  };
  if (run.modelPath != baseline.modelPath && run.model != baseline.model) return refuse(RunModel::tr("other model"));
  const bool quality = name == "perplexity" || name.starts_with("kld") || name == "top1" || name == "bits_per_byte";
  if (quality && (run.corpus != baseline.corpus)) return refuse(RunModel::tr("other text"));
  if (quality && (run.protocol != baseline.protocol)) return refuse(RunModel::tr("other protocol"));
  if (!quality && run.device != baseline.device) return refuse(RunModel::tr("other device"));
  if (!quality && run.kind != baseline.kind) return refuse(RunModel::tr("other kind of run"));
  delta.ratio = b.value / a.value;
  const auto ha = halfWidth(a), hb = halfWidth(b);
  const double difference = b.value - a.value;
  if (ha && hb && std::fabs(difference) <= std::hypot(*ha, *hb)) {
    delta.verdict = RunDelta::Verdict::withinNoise;
    delta.why = RunModel::tr("the 95 % interval of the difference holds 0");
    return delta;
  }
  delta.why = ha && hb ? RunModel::tr("outside the 95 % interval") : RunModel::tr("no interval: measured once");
  if (b.better == "lower" || b.better == "higher")
    delta.verdict = (difference < 0) == (b.better == "lower") ? RunDelta::Verdict::better : RunDelta::Verdict::worse;
  if (difference == 0) delta.verdict = RunDelta::Verdict::withinNoise;
  return delta;
}

QString RunModel::metricTitle(const std::string& metric) {
  const int rank = metricRank(metric);
  if (rank < 1000) return tr(kMetrics[rank].title);
  return text(metric).replace(QLatin1Char('_'), QLatin1Char(' '));
}

QString RunModel::statusText(const storage::RunSummary& run) {
  using storage::RunStatus;
  switch (run.status) {
    case RunStatus::queued: return tr("queued");
    case RunStatus::running: return tr("running");
    case RunStatus::failed: return tr("failed");
    case RunStatus::cancelled: return plural(run.tokens, tr("stopped after %1 token"), tr("stopped after %1 tokens"));
    case RunStatus::interrupted: return plural(run.tokens, tr("interrupted after %1 token"), tr("interrupted after %1 tokens"));
    case RunStatus::done: break;
  }
  const bool adjusted = run.divergenceJson.size() > 2;
  return adjusted ? tr("done, adjusted") : tr("done");
}

void RunModel::setRuns(std::vector<storage::RunSummary> runs) {
  beginResetModel();
  runs_ = std::move(runs);
  baseline_ = -1;
  for (size_t i = 0; i < runs_.size(); ++i)
    if (runs_[i].baseline) baseline_ = static_cast<int>(i);
  chooseColumns();
  endResetModel();
}

void RunModel::chooseColumns() {
  using Kind = Column::Kind;
  columns_ = {{Kind::baseline, QString(), tr("Base"), tr("The run the others are compared with")},
              {Kind::name, QString(), tr("Name"), tr("Double-click opens the run; F2 renames")},
              {Kind::status, QString(), tr("Status"), QString()},
              {Kind::kind, QString(), tr("Kind"), QString()}};
  std::set<std::string> models, knobs, metrics;
  for (const auto& run : runs_) {
    models.insert(run.model);
    for (const auto& [name, value] : run.effective) knobs.insert(name);
    for (const auto& [name, metric] : run.metrics) metrics.insert(name);
  }
  if (models.size() > 1) columns_.push_back({Kind::model, QString(), tr("Model"), QString()});
  const auto differs = [&](const std::string& knob) {
    return std::any_of(runs_.begin(), runs_.end(), [&](const auto& run) { return settingOf(run, knob) != settingOf(runs_.front(), knob); });
  };
  const auto implied = [&](const std::string& knob) {
    return std::all_of(runs_.begin(), runs_.end(), [&](const auto& run) { return impliedIn(run, knob); });
  };
  for (const std::string& knob : knobs)
    if (differs(knob) && !implied(knob))
      columns_.push_back({Kind::knob, text(knob), text(knob), tr("Effective value; shown because it differs among these runs")});
  std::vector<std::string> ordered(metrics.begin(), metrics.end());
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) { return metricRank(a) < metricRank(b); });
  for (const std::string& metric : ordered) {
    columns_.push_back({Kind::metric, text(metric), metricTitle(metric), text(metric)});
    if (baseline_ >= 0 && metricRank(metric) < 1000 && kMetrics[metricRank(metric)].difference)
      columns_.push_back({Kind::delta, text(metric), tr("Δ base"), tr("%1 against the baseline run").arg(metricTitle(metric))});
  }
  columns_.push_back({Kind::started, QString(), tr("Started"), QString()});
}

const storage::RunSummary* RunModel::baseline() const { return baseline_ < 0 ? nullptr : &runs_[static_cast<size_t>(baseline_)]; }

int RunModel::rowOf(storage::Id id) const {
  for (size_t i = 0; i < runs_.size(); ++i)
    if (runs_[i].id == id) return static_cast<int>(i);
  return -1;
}

QString RunModel::display(const storage::RunSummary& run, const Column& column) const {
  const Format format;
  switch (column.kind) {
    case Column::Kind::baseline: return run.baseline ? tr("base") : QString();
    case Column::Kind::name: return run.name.empty() ? tr("run %1").arg(run.id) : text(run.name);
    case Column::Kind::status: return statusText(run);
    case Column::Kind::kind: return text(std::string(storage::runKindName(run.kind)));
    case Column::Kind::model: return text(run.model);
    case Column::Kind::knob: return settingOf(run, column.key.toStdString());
    case Column::Kind::started:
      return run.startedUs ? QLocale().toString(QDateTime::fromMSecsSinceEpoch(*run.startedUs / 1000), QLocale::ShortFormat)
                           : Format::missing();
    case Column::Kind::metric: {
      const auto found = run.metrics.find(column.key.toStdString());
      if (found == run.metrics.end()) return Format::missing();
      const storage::Metric& metric = found->second;
      if (found->first == "perplexity") return format.perplexity(metric.value, halfWidth(metric));
      if (found->first.ends_with("tokens_per_second")) return format.rate(metric.value);
      if (found->first == "top1" || found->first.ends_with("_share")) return format.percent(metric.value);
      if (metric.ciLow && metric.ciHigh) return format.interval(metric.value, *metric.ciLow, *metric.ciHigh, text(metric.unit));
      return format.value(metric.value, text(metric.unit));
    }
    case Column::Kind::delta: {
      if (!baseline() || run.metrics.find(column.key.toStdString()) == run.metrics.end()) return Format::missing();
      const RunDelta delta = compareRuns(run, *baseline(), column.key.toStdString());
      switch (delta.verdict) {
        case RunDelta::Verdict::none: return run.baseline ? tr("base") : Format::missing();
        case RunDelta::Verdict::notComparable: return tr("not comparable: %1").arg(delta.why);
        case RunDelta::Verdict::withinNoise: return tr("within noise");
        case RunDelta::Verdict::better: return QStringLiteral("%1 %2").arg(format.relative(delta.ratio), tr("better"));
        case RunDelta::Verdict::worse: return QStringLiteral("%1 %2").arg(format.relative(delta.ratio), tr("worse"));
      }
    }
  }
  return {};
}

QVariant RunModel::sortKey(const storage::RunSummary& run, const Column& column) const {
  switch (column.kind) {
    case Column::Kind::started: return static_cast<qlonglong>(run.startedUs.value_or(0));
    case Column::Kind::baseline: return run.baseline ? 0 : 1;
    case Column::Kind::metric: {
      const auto found = run.metrics.find(column.key.toStdString());
      return found == run.metrics.end() ? QVariant(std::numeric_limits<double>::infinity()) : QVariant(found->second.value);
    }
    case Column::Kind::delta: return baseline() ? compareRuns(run, *baseline(), column.key.toStdString()).ratio : 1.0;
    case Column::Kind::knob: {
      bool number = false;
      const QString shown = display(run, column);
      const double value = shown.toDouble(&number);
      return number ? QVariant(value) : QVariant(shown);
    }
    default: return display(run, column);
  }
}

QString RunModel::tip(const storage::RunSummary& run, const Column& column) const {
  if (column.kind == Column::Kind::status && !run.errorText.empty()) return text(run.errorText);
  if (column.kind == Column::Kind::status && run.divergenceJson.size() > 2)
    return tr("Asked for and got differ: %1").arg(text(run.divergenceJson));
  if (column.kind == Column::Kind::delta && baseline()) return compareRuns(run, *baseline(), column.key.toStdString()).why;
  if (column.kind == Column::Kind::name) return run.notes.empty() ? tr("run %1, %2").arg(run.id).arg(text(run.model)) : text(run.notes);
  if (column.kind == Column::Kind::metric) {
    const auto found = run.metrics.find(column.key.toStdString());
    if (found != run.metrics.end())
      return tr("%1 %2, n = %3").arg(found->second.value, 0, 'g', 9).arg(text(found->second.unit)).arg(found->second.n);
  }
  return {};
}

QVariant RunModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid()) return {};
  const storage::RunSummary& run = runs_[static_cast<size_t>(index.row())];
  const Column& column = columns_[static_cast<size_t>(index.column())];
  switch (role) {
    case Qt::DisplayRole: return display(run, column);
    case Qt::EditRole: return column.kind == Column::Kind::name ? text(run.name) : display(run, column);
    case Qt::ToolTipRole: return tip(run, column);
    case Qt::AccessibleTextRole: return QStringLiteral("%1: %2").arg(column.title, display(run, column));
    case Qt::TextAlignmentRole:
      if (column.kind == Column::Kind::metric || column.kind == Column::Kind::delta)
        return static_cast<int>(Qt::AlignRight | Qt::AlignVCenter);
      return {};
    case IdRole: return static_cast<qlonglong>(run.id);
    case SortRole: return sortKey(run, column);
    case DeltaRole:
      if (column.kind == Column::Kind::delta && baseline())
        return static_cast<int>(compareRuns(run, *baseline(), column.key.toStdString()).verdict);
      return {};
    default: return {};
  }
}

bool RunModel::setData(const QModelIndex& index, const QVariant& value, int role) {
  if (!index.isValid() || role != Qt::EditRole || columns_[static_cast<size_t>(index.column())].kind != Column::Kind::name) return false;
  const QString name = value.toString().trimmed();
  storage::RunSummary& run = runs_[static_cast<size_t>(index.row())];
  if (name.isEmpty() || name == text(run.name)) return false;
  run.name = name.toStdString();
  Q_EMIT dataChanged(index, index);
  Q_EMIT renamed(run.id, name);
  return true;
}

Qt::ItemFlags RunModel::flags(const QModelIndex& index) const {
  Qt::ItemFlags flags = QAbstractTableModel::flags(index);
  if (index.isValid() && !readOnly_ && columns_[static_cast<size_t>(index.column())].kind == Column::Kind::name)
    flags |= Qt::ItemIsEditable;
  return flags;
}

QVariant RunModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal || section < 0 || section >= static_cast<int>(columns_.size())) return {};
  const Column& column = columns_[static_cast<size_t>(section)];
  if (role == Qt::DisplayRole) return column.title;
  if (role == Qt::ToolTipRole) return column.tip;
  return {};
}

}  // namespace winnow
