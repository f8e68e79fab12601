// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/job_button.h"

#include <QProgressBar>
#include <QPushButton>

namespace winnow {

JobButton::JobButton(Workbench* workbench, JobState::Kind kind, const QString& name, QBoxLayout::Direction direction, QWidget* parent)
    : QWidget(parent), workbench_(workbench), kind_(kind), button_(new QPushButton(this)), progress_(new QProgressBar(this)) {
  auto* line = new QBoxLayout(direction, this);
  line->setContentsMargins(0, 0, 0, 0);
  line->setSpacing(8);
  button_->setObjectName(name);
  button_->setAutoDefault(false);
  line->addWidget(button_);
  progress_->setAccessibleName(tr("Progress"));
  progress_->setRange(0, 1000);
  line->addWidget(progress_);
  connect(button_, &QPushButton::clicked, this, [this] {
    if (mine(workbench_->job())) workbench_->stop();
    else Q_EMIT wanted();
  });
  connect(workbench_, &Workbench::jobChanged, this, &JobButton::follow);
  refresh();
}

void JobButton::refresh() { follow(workbench_->job()); }

void JobButton::follow(const JobState& job) {
  button_->setText(mine(job) ? tr("Stop") : tr("Measure"));
  button_->setEnabled(workbench_->hasModel() && (mine(job) || !job.running));
  button_->setToolTip(!workbench_->hasModel() ? tr("No model is open") : job.running && !mine(job) ? tr("Another job is running") : QString());
  progress_->setVisible(mine(job));
  progress_->setRange(0, job.fraction < 0 ? 0 : 1000);
  if (job.fraction >= 0) progress_->setValue(static_cast<int>(job.fraction * 1000));
}

}  // namespace winnow
