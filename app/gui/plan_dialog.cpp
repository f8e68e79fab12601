// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/plan_dialog.h"

#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QJsonDocument>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QSaveFile>
#include <QSignalBlocker>
#include <QTableView>
#include <QVBoxLayout>
#include <algorithm>

#include "experiments/format.h"
#include "panels/text/wording.h"

namespace winnow {

void PlanModel::setPlan(const PlanFile& plan, const std::function<Effective(const Config&)>& resolved) {
  beginResetModel();
  points_ = plan.points();
  refusals_.assign(points_.size(), {});
  for (size_t i = 0; resolved && i < points_.size(); ++i) {
    const Effective effective = resolved(points_[i].config);
    if (!effective.asRequested())
      refusals_[i] = QString::fromStdString(effective.adjustments.front().knob + ": " + effective.adjustments.front().reason);
  }
  experiments_.clear();
  for (const Experiment& each : plan.experiments) experiments_.push_back(experimentKind(each));
  states_.clear();
  endResetModel();
}

void PlanModel::setStates(const std::vector<storage::SweepPoint>& points) {
  states_ = points;
  if (!points_.empty()) Q_EMIT dataChanged(index(0, stateColumn), index(rowCount() - 1, noteColumn));
}

int PlanModel::excluded() const {
  return static_cast<int>(std::count_if(refusals_.begin(), refusals_.end(), [](const QString& why) { return !why.isEmpty(); }));
}

int PlanModel::done() const {
  return static_cast<int>(std::count_if(states_.begin(), states_.end(), [](const storage::SweepPoint& point) {
    return point.state == storage::PointState::done || point.state == storage::PointState::skipped;
  }));
}

QVariant PlanModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid() || (role != Qt::DisplayRole && role != Qt::ToolTipRole)) return {};
  const auto row = static_cast<size_t>(index.row());
  const PlanFile::Point& point = points_[row];
  const storage::SweepPoint* state = nullptr;
  if (row < states_.size() && states_[row].ordinal == index.row()) state = &states_[row];  // stored in their order
  const QString& refusal = refusals_[row];
  switch (index.column()) {
    case numberColumn: return index.row() + 1;
    case configurationColumn: {
      const QString text = QString::fromStdString(point.config.canonical());
      return text.isEmpty() ? tr("defaults") : text;
    }
    case kindColumn: return experiments_[static_cast<size_t>(point.experiment)];
    case repeatColumn: return point.repeat + 1;
    case stateColumn: {
      if (!state) return refusal.isEmpty() ? tr("to do") : tr("excluded");
      switch (state->state) {
        case storage::PointState::todo: return tr("to do");
        case storage::PointState::running: return tr("running");
        case storage::PointState::done: return tr("done");
        case storage::PointState::failed: return tr("failed");
        case storage::PointState::skipped: return tr("skipped");
      }
      return {};
    }
    case noteColumn: return state && !state->note.empty() ? QString::fromStdString(state->note) : refusal;
    default: return {};
  }
}

QVariant PlanModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal || role != Qt::DisplayRole) return {};
  switch (section) {
    case numberColumn: return tr("#");
    case configurationColumn: return tr("Configuration");
    case kindColumn: return tr("Experiment");
    case repeatColumn: return tr("Repeat");
    case stateColumn: return tr("State");
    case noteColumn: return tr("Note");
    default: return {};
  }
}

PlanDialog::PlanDialog(Workbench* workbench, QWidget* parent) : QDialog(parent), workbench_(workbench) {
  setObjectName(QStringLiteral("plan"));
  setWindowTitle(tr("Plan"));
  resize(980, 640);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(16, 16, 16, 16);
  all->setSpacing(12);
  all->addLayout(buildTop());
  editor_ = new PlanEditor(this);
  all->addWidget(editor_);
  buildTable();
  all->addWidget(table_, 1);
  status_ = new QLabel(this);
  status_->setObjectName(QStringLiteral("plan.status"));
  status_->setWordWrap(true);
  all->addWidget(status_);
  all->addLayout(buildBar());
  connectAll();
  compose({});
}

QHBoxLayout* PlanDialog::buildTop() {
  auto* top = new QHBoxLayout;
  top->setSpacing(8);
  title_ = new QLabel(this);
  title_->setObjectName(QStringLiteral("plan.title"));
  title_->setWordWrap(true);
  top->addWidget(title_, 1);
  const auto button = [&](const QString& text, const char* name) {
    auto* out = new QPushButton(text, this);
    out->setObjectName(QString::fromLatin1(name));
    out->setAutoDefault(false);
    top->addWidget(out);
    return out;
  };
  new_ = button(tr("New plan"), "plan.new");
  open_ = button(tr("Open plan…"), "plan.open");
  save_ = button(tr("Save plan…"), "plan.save");
  return top;
}

void PlanDialog::buildTable() {
  table_ = new QTableView(this);
  table_->setObjectName(QStringLiteral("plan.table"));
  table_->setAccessibleName(tr("Points of the plan"));
  table_->setModel(&model_);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setShowGrid(false);
  table_->setAlternatingRowColors(true);
  table_->setTabKeyNavigation(false);
  table_->setWordWrap(false);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 12);
  table_->horizontalHeader()->setHighlightSections(false);
  table_->horizontalHeader()->setDefaultAlignment(Qt::AlignLeft | Qt::AlignVCenter);
  table_->horizontalHeader()->setStretchLastSection(true);
  table_->setColumnWidth(PlanModel::numberColumn, 56);
  table_->setColumnWidth(PlanModel::configurationColumn, 380);
  table_->setColumnWidth(PlanModel::repeatColumn, 72);
}

QHBoxLayout* PlanDialog::buildBar() {
  auto* bar = new QHBoxLayout;
  bar->setSpacing(8);
  const auto button = [&](const QString& text, const char* name, const QString& tip) {
    auto* out = new QPushButton(text, this);
    out->setObjectName(QString::fromLatin1(name));
    out->setToolTip(tip);
    out->setAutoDefault(false);
    bar->addWidget(out);
    return out;
  };
  start_ = button(tr("Start"), "plan.start", tr("Run every point, in this session"));
  start_->setAutoDefault(true);
  start_->setDefault(true);
  resume_ = button(tr("Go on"), "plan.resume", tr("Run the points that are still to do"));
  stop_ = button(tr("Stop"), "plan.stop", tr("Stop now; finished points are kept and the rest can go on later"));
  progress_ = new QProgressBar(this);
  progress_->setAccessibleName(tr("Progress"));
  progress_->setMaximumWidth(220);
  bar->addWidget(progress_);
  bar->addStretch(1);
  compare_ = button(tr("Compare runs"), "plan.compare", tr("Show the runs of this plan side by side"));
  close_ = button(tr("Close"), "plan.close", {});
  return bar;
}

void PlanDialog::connectAll() {
  timer_.setSingleShot(true);
  timer_.setInterval(200);
  connect(&timer_, &QTimer::timeout, this, &PlanDialog::refresh);
  const auto soon = [this] {
    if (!timer_.isActive()) timer_.start();
  };
  connect(editor_, &PlanEditor::changed, this, &PlanDialog::edited);
  connect(open_, &QPushButton::clicked, this, [this] {
    const QString path = QFileDialog::getOpenFileName(this, tr("Open plan"), {}, tr("Plans (*.json)"));
    if (!path.isEmpty()) open(path);
  });
  connect(new_, &QPushButton::clicked, this, [this] { compose({}); });
  connect(save_, &QPushButton::clicked, this, &PlanDialog::save);
  connect(start_, &QPushButton::clicked, this, [this] { start(false); });
  connect(resume_, &QPushButton::clicked, this, [this] { start(true); });
  connect(stop_, &QPushButton::clicked, workbench_, &Workbench::stop);
  connect(close_, &QPushButton::clicked, this, &QDialog::close);
  connect(compare_, &QPushButton::clicked, this, [this] {
    std::vector<qint64> runs;
    if (const auto sweep = stored())
      for (const storage::SweepPoint& point : sweep->points)
        if (point.run && point.state == storage::PointState::done) runs.push_back(*point.run);
    Q_EMIT compareRequested(runs);
  });
  connect(workbench_, &Workbench::jobChanged, this, soon);
  connect(workbench_, &Workbench::runsChanged, this, soon);
  connect(workbench_, &Workbench::sessionChanged, this, soon);
  connect(workbench_, &Workbench::modelChanged, this, [this] {
    if (editor_->isVisibleTo(this)) compose({});
  });
  connect(workbench_, &Workbench::jobFailed, this, [this](const QString& message, const QString& hint) {
    if (isVisible()) say(hint.isEmpty() ? message : message + QLatin1Char(' ') + hint);
  });
}

void PlanDialog::say(const QString& text) {
  said_ = text;
  refresh();
}

void PlanDialog::compose(const QString& prompt) {
  const QSignalBlocker quiet(editor_);
  editor_->show();
  editor_->setBase(workbench_->requested());
  editor_->setModel(workbench_->hasModel() ? std::optional<ModelInfo>(workbench_->model()) : std::nullopt);
  if (!prompt.isEmpty()) editor_->setPrompt(prompt);
  edited();
}

void PlanDialog::edited() {
  auto plan = editor_->plan();
  if (plan) {
    said_.clear();
    take(std::move(*plan));
    return;
  }
  plan_.reset();
  model_.setPlan(PlanFile{}, {});
  title_->setText(tr("A plan runs experiments over every combination of its axes."));
  say(QString::fromStdString(plan.error().message));
}

bool PlanDialog::open(const QString& path) {
  auto plan = PlanFile::read(path);
  if (!plan) {
    const Error& error = plan.error();
    say(QString::fromStdString(error.hint.empty() ? error.message : error.message + " " + error.hint));
    return false;
  }
  editor_->hide();
  said_.clear();
  take(std::move(*plan));
  return true;
}

bool PlanDialog::offerUnfinished() {
  const auto session = workbench_->session();
  if (!session || session->readOnly()) return false;
  const auto sweeps = session->sweeps();
  if (!sweeps) return false;
  for (const storage::SweepRecord& sweep : *sweeps) {
    const auto open = [](const storage::SweepPoint& p) {
      return p.state == storage::PointState::todo || p.state == storage::PointState::running;
    };
    if (std::none_of(sweep.points.begin(), sweep.points.end(), open)) continue;
    auto plan = PlanFile::parse(QByteArray::fromStdString(sweep.planJson), {});
    if (!plan) continue;
    editor_->hide();
    said_ = tr("This plan of the session is not finished.");
    take(std::move(*plan));
    return true;
  }
  return false;
}

void PlanDialog::take(PlanFile plan) {
  std::function<Effective(const Config&)> resolved;
  if (workbench_->hasModel()) {
    const ModelInfo info = workbench_->model();
    if (info.path == plan.model || info.source == plan.model) resolved = [this](const Config& config) { return workbench_->resolved(config); };
  }
  plan_ = std::move(plan);
  model_.setPlan(*plan_, resolved);
  QString text = tr("%1: %2 on %3").arg(plan_->name.isEmpty() ? tr("Plan") : plan_->name,
                                        plural(model_.rowCount(), tr("%1 point"), tr("%1 points")), QFileInfo(plan_->model).fileName());
  if (const int out = model_.excluded(); out > 0) text += QStringLiteral(" · ") + tr("%1 excluded by the model").arg(out);
  title_->setText(text);
  refresh();
}

void PlanDialog::save() {
  if (!plan_) return;
  const QString path = QFileDialog::getSaveFileName(this, tr("Save plan"), plan_->name + QStringLiteral(".json"), tr("Plans (*.json)"));
  if (path.isEmpty()) return;
  QSaveFile file(path);
  const QByteArray bytes = QJsonDocument::fromJson(plan_->toJson()).toJson(QJsonDocument::Indented);
  if (!file.open(QIODevice::WriteOnly) || file.write(bytes) != bytes.size() || !file.commit())
    say(tr("%1 cannot be written: %2.").arg(path, file.errorString()));
  else
    say(tr("Saved %1. winnow-cli runs it too.").arg(path));
}

void PlanDialog::start(bool resume) {
  if (!plan_) return;
  said_.clear();
  workbench_->runPlan(*plan_, resume);
}

std::optional<storage::SweepRecord> PlanDialog::stored() const {
  const auto session = workbench_->session();
  if (!session || !plan_) return std::nullopt;
  auto sweeps = session->sweeps();
  if (!sweeps) return std::nullopt;
  const std::string json = plan_->toJson().toStdString();
  for (storage::SweepRecord& sweep : *sweeps)
    if (sweep.planJson == json) return std::move(sweep);
  return std::nullopt;
}

// What has become of the points.
QString PlanDialog::summary() const {
  const int all = model_.rowCount(), done = model_.done();
  if (all == 0) return {};
  if (done == all) return tr("Every point is done in this session. More repeats, or another name, measure again.");
  return done == 0 ? QString() : tr("%1 of %2 points are done.").arg(done).arg(all);
}

void PlanDialog::refresh() {
  const JobState job = workbench_->job();
  const bool mine = job.running && job.kind == JobState::Kind::plan;
  const auto sweep = stored();
  model_.setStates(sweep ? sweep->points : std::vector<storage::SweepPoint>{});
  start_->setEnabled(plan_ && !job.running && !sweep);
  resume_->setEnabled(plan_ && !job.running && sweep && model_.done() < model_.rowCount());
  stop_->setEnabled(mine);
  save_->setEnabled(plan_.has_value());
  compare_->setEnabled(sweep && model_.done() > 0);
  for (QWidget* each : std::initializer_list<QWidget*>{editor_, new_, open_}) each->setEnabled(!mine);
  progress_->setVisible(mine);
  progress_->setRange(0, std::max(1, model_.rowCount()));
  progress_->setValue(model_.done());
  QString text = QStringList{said_, summary()}.join(QLatin1Char(' ')).trimmed();
  if (mine) {
    text = job.what;
    if (job.secondsLeft >= 0) text += QStringLiteral(" · ") + tr("%1 left").arg(Format().duration(job.secondsLeft * 1e9));
  } else if (job.running && text.isEmpty()) {
    text = tr("\"%1\" is still running; a plan measures alone.").arg(job.what);
  }
  status_->setText(text);
}

}  // namespace winnow
