// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/plan_dialog.h"

#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QStyle>
#include <QTableView>
#include <QVBoxLayout>
#include <algorithm>

#include "experiments/format.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

QString kindOf(const Experiment& experiment) {
  static const char* const names[] = {QT_TRANSLATE_NOOP("PlanModel", "generate"), QT_TRANSLATE_NOOP("PlanModel", "evaluate"),
                                      QT_TRANSLATE_NOOP("PlanModel", "bench"), QT_TRANSLATE_NOOP("PlanModel", "attribute")};
  return PlanModel::tr(names[experiment.index()]);
}

}  // namespace

void PlanModel::setPlan(const PlanFile& plan) {
  beginResetModel();
  points_ = plan.points();
  experiments_.clear();
  for (const Experiment& each : plan.experiments) experiments_.push_back(kindOf(each));
  states_.clear();
  endResetModel();
}

void PlanModel::setStates(const std::vector<storage::SweepPoint>& points) {
  states_ = points;
  if (!points_.empty()) Q_EMIT dataChanged(index(0, stateColumn), index(rowCount() - 1, noteColumn));
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
  for (const storage::SweepPoint& each : states_)
    if (each.ordinal == index.row()) state = &each;
  switch (index.column()) {
    case numberColumn: return index.row() + 1;
    case configurationColumn: {
      const QString text = QString::fromStdString(point.config.canonical());
      return text.isEmpty() ? tr("defaults") : text;
    }
    case kindColumn: return experiments_[static_cast<size_t>(point.experiment)];
    case repeatColumn: return point.repeat + 1;
    case stateColumn: {
      if (!state) return tr("to do");
      switch (state->state) {
        case storage::PointState::todo: return tr("to do");
        case storage::PointState::running: return tr("running");
        case storage::PointState::done: return tr("done");
        case storage::PointState::failed: return tr("failed");
        case storage::PointState::skipped: return tr("skipped");
      }
      return {};
    }
    case noteColumn: return state ? QString::fromStdString(state->note) : QString();
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
  resize(860, 520);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(16, 16, 16, 16);
  all->setSpacing(12);
  auto* top = new QHBoxLayout;
  title_ = new QLabel(tr("A plan runs experiments over every combination of its knobs."), this);
  title_->setWordWrap(true);
  auto* choose = new QPushButton(tr("Open plan…"), this);
  choose->setObjectName(QStringLiteral("plan.open"));
  choose->setAutoDefault(false);
  top->addWidget(title_, 1);
  top->addWidget(choose);
  all->addLayout(top);
  table_ = new QTableView(this);
  table_->setObjectName(QStringLiteral("plan.table"));
  table_->setAccessibleName(tr("Points of the plan"));
  table_->setModel(&model_);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setShowGrid(false);
  table_->setTabKeyNavigation(false);
  table_->setWordWrap(false);
  table_->verticalHeader()->hide();
  table_->horizontalHeader()->setHighlightSections(false);
  table_->horizontalHeader()->setStretchLastSection(true);
  table_->setColumnWidth(PlanModel::numberColumn, 48);
  table_->setColumnWidth(PlanModel::configurationColumn, 340);
  all->addWidget(table_, 1);
  auto* bar = new QHBoxLayout;
  start_ = new QPushButton(tr("Start"), this);
  start_->setObjectName(QStringLiteral("plan.start"));
  start_->setToolTip(tr("Run every point, in this session"));
  resume_ = new QPushButton(tr("Go on"), this);
  resume_->setObjectName(QStringLiteral("plan.resume"));
  resume_->setToolTip(tr("Run the points that are still to do"));
  stop_ = new QPushButton(tr("Stop"), this);
  stop_->setObjectName(QStringLiteral("plan.stop"));
  for (QPushButton* each : {resume_, stop_}) each->setAutoDefault(false);
  progress_ = new QProgressBar(this);
  progress_->setAccessibleName(tr("Progress"));
  progress_->setMaximumWidth(180);
  status_ = new QLabel(this);
  status_->setObjectName(QStringLiteral("plan.status"));
  status_->setWordWrap(true);
  for (QWidget* each : std::initializer_list<QWidget*>{start_, resume_, stop_, progress_}) bar->addWidget(each);
  bar->addWidget(status_, 1);
  auto* close = new QPushButton(tr("Close"), this);
  close->setAutoDefault(false);
  bar->addWidget(close);
  all->addLayout(bar);
  connectAll(choose, close);
  refresh();
}

void PlanDialog::connectAll(QPushButton* choose, QPushButton* close) {
  timer_.setSingleShot(true);
  timer_.setInterval(200);
  connect(&timer_, &QTimer::timeout, this, &PlanDialog::refresh);
  connect(choose, &QPushButton::clicked, this, [this] {
    const QString path = QFileDialog::getOpenFileName(this, tr("Open plan"), {}, tr("Plans (*.json)"));
    if (!path.isEmpty()) open(path);
  });
  connect(start_, &QPushButton::clicked, this, [this] { start(false); });
  connect(resume_, &QPushButton::clicked, this, [this] { start(true); });
  connect(stop_, &QPushButton::clicked, workbench_, &Workbench::stop);
  connect(close, &QPushButton::clicked, this, &QDialog::close);
  connect(workbench_, &Workbench::jobChanged, this, [this] {
    if (!timer_.isActive()) timer_.start();
  });
  connect(workbench_, &Workbench::runsChanged, this, [this] {
    if (!timer_.isActive()) timer_.start();
  });
  connect(workbench_, &Workbench::jobFailed, this, [this](const QString& message, const QString& hint) {
    if (isVisible()) status_->setText(hint.isEmpty() ? message : message + QLatin1Char(' ') + hint);
  });
}

bool PlanDialog::open(const QString& path) {
  auto plan = PlanFile::read(path);
  if (!plan) {
    const Error& error = plan.error();
    status_->setText(QString::fromStdString(error.hint.empty() ? error.message : error.message + " " + error.hint));
    return false;
  }
  plan_ = std::move(*plan);
  model_.setPlan(*plan_);
  title_->setText(tr("%1: %2 on %3").arg(plan_->name.isEmpty() ? QFileInfo(path).completeBaseName() : plan_->name,
                                         plural(model_.rowCount(), tr("%1 point"), tr("%1 points")), QFileInfo(plan_->model).fileName()));
  status_->clear();
  refresh();
  return true;
}

void PlanDialog::start(bool resume) {
  if (!plan_) return;
  status_->clear();
  workbench_->runPlan(*plan_, resume);
}

void PlanDialog::refresh() {
  const JobState job = workbench_->job();
  const bool mine = job.running && job.kind == JobState::Kind::plan;
  bool begun = false;
  if (const auto session = workbench_->session(); session && plan_) {
    if (const auto sweeps = session->sweeps()) {
      for (const storage::SweepRecord& sweep : *sweeps) {
        if (sweep.planJson != plan_->toJson().toStdString()) continue;
        model_.setStates(sweep.points);
        begun = true;
        break;
      }
    }
  }
  start_->setEnabled(plan_ && !job.running && !begun);
  resume_->setEnabled(plan_ && !job.running && begun && model_.done() < model_.rowCount());
  stop_->setEnabled(mine);
  progress_->setVisible(mine);
  progress_->setRange(0, std::max(1, model_.rowCount()));
  progress_->setValue(model_.done());
  if (!mine) return;
  QString text = job.what;
  if (job.secondsLeft >= 0) text += QStringLiteral(" · ") + tr("%1 left").arg(Format().duration(job.secondsLeft * 1e9));
  status_->setText(text);
}

}  // namespace winnow
