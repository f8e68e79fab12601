// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/status_chips.h"

#include <QDateTime>
#include <QFileInfo>
#include <QStatusBar>
#include <QToolButton>
#include <numeric>

#include "experiments/format.h"
#include "panels/text/wording.h"

namespace winnow {

StatusChips::StatusChips(QStatusBar* bar, Workbench* workbench, const MachineInfo& machine)
    : QObject(bar), bar_(bar), workbench_(workbench), machine_(machine) {
  bar_->setSizeGripEnabled(false);
  device_ = chip(QStringLiteral("chip.device"), tr("Device"));
  memory_ = chip(QStringLiteral("chip.memory"), tr("Memory"));
  speed_ = chip(QStringLiteral("chip.speed"), tr("Speed"));
  weights_ = chip(QStringLiteral("chip.weights"), tr("Weights"));
  session_ = chip(QStringLiteral("chip.session"), tr("Session"));
  connect(device_, &QToolButton::clicked, this, &StatusChips::deviceClicked);
  connect(memory_, &QToolButton::clicked, this, &StatusChips::memoryClicked);
  connect(speed_, &QToolButton::clicked, this, &StatusChips::speedClicked);
  connect(weights_, &QToolButton::clicked, this, &StatusChips::weightsClicked);
  connect(session_, &QToolButton::clicked, this, &StatusChips::sessionClicked);
  device_->setToolTip(machine.line() + QLatin1Char('\n') + machine.details());
  timer_.setInterval(500);
  connect(&timer_, &QTimer::timeout, this, &StatusChips::tick);
  timer_.start();
  refresh();
}

QToolButton* StatusChips::chip(const QString& name, const QString& what) {
  auto* button = new QToolButton(bar_);
  button->setObjectName(name);
  button->setAccessibleName(what);
  button->setAutoRaise(true);
  button->setFocusPolicy(Qt::TabFocus);
  bar_->addWidget(button);
  return button;
}

void StatusChips::addTokens(const std::vector<TokenPoint>& points) {
  for (const TokenPoint& point : points) {
    if (!point.prompt && point.ms > 0) recentMs_.push_back(point.ms);
    memoryBytes_ = std::accumulate(point.memory.begin(), point.memory.end(), int64_t{0});
  }
  if (recentMs_.size() > 32) recentMs_.erase(recentMs_.begin(), recentMs_.end() - 32);
}

void StatusChips::refresh() {
  if (workbench_->job().kind == JobState::Kind::generate && !workbench_->job().running) recentMs_.clear();
  const QString device = workbench_->hasModel() ? workbench_->model().device : QString();
  device_->setText(device.startsWith(QStringLiteral("CUDA")) ? device.section(u',', 0, 0)
                                                            : plural(machine_.threads, tr("CPU · %1 thread"), tr("CPU · %1 threads")));
  tick();
}

void StatusChips::tick() {
  const Format format;
  const JobState job = workbench_->job();
  memory_->setVisible(workbench_->hasModel());
  if (workbench_->hasModel()) {
    int64_t bytes = memoryBytes_;
    if (bytes == 0) {
      const MemoryByTag plan = workbench_->planMemory(workbench_->effective().config);
      bytes = std::accumulate(plan.begin(), plan.end(), int64_t{0});
    }
    memory_->setText(tr("%1 of %2").arg(format.bytes(static_cast<double>(bytes)), format.bytes(static_cast<double>(machine_.memoryBytes))));
    memory_->setToolTip(tr("Memory of the model and its cache, of this machine's. Click for the memory chart."));
  }
  speed_->setVisible(job.running);
  if (job.running) {
    QString text = job.what;
    if (job.kind == JobState::Kind::generate && !recentMs_.empty()) {
      const double mean = std::accumulate(recentMs_.begin(), recentMs_.end(), 0.0) / static_cast<double>(recentMs_.size());
      text = tr("decoding %1").arg(format.rate(1000 / mean));
    }
    if (job.fraction >= 0) text += QStringLiteral(" · ") + format.percent(job.fraction);
    speed_->setText(text);
    speed_->setToolTip(job.what);
  }
  weights_->setVisible(workbench_->weightsPending());
  if (workbench_->weightsPending())
    weights_->setText(tr("preparing weights %1").arg(format.percent(std::max(0.0, workbench_->weightsPendingFraction()))));
  const auto session = workbench_->session();
  session_->setVisible(session != nullptr);
  if (!session) return;
  const storage::WriterState state = session->writerState();
  QString name = workbench_->sessionIsTemporary() ? tr("untitled session") : QFileInfo(QString::fromStdString(session->path())).fileName();
  QString text;
  if (session->readOnly()) text = tr("%1 · read-only").arg(name);
  else if (state.degraded) text = tr("%1 · not saving: %2").arg(name, QString::fromStdString(state.problem));
  else if (state.queued > 0) text = tr("%1 · saving").arg(name);
  else if (state.lastCommitUs > 0)
    text = tr("%1 · saved %2 ago")
               .arg(name, format.duration(std::max(0.0, static_cast<double>(QDateTime::currentMSecsSinceEpoch()) * 1e6 -
                                                            static_cast<double>(state.lastCommitUs) * 1e3)));
  else text = name;
  if (state.dropped > 0) text += QStringLiteral(" · ") + plural(state.dropped, tr("%1 sample dropped"), tr("%1 samples dropped"));
  session_->setText(text);
  session_->setToolTip(
      workbench_->sessionIsTemporary()
          ? tr("Every run is kept in %1. Click to save the session under a name of yours.").arg(QString::fromStdString(session->path()))
          : QString::fromStdString(session->path()));
}

}  // namespace winnow
