// SPDX-License-Identifier: GPL-3.0-or-later
// Starts a job of one kind, stops it while it runs, and shows how far it is.
#pragma once
#include <QBoxLayout>
#include <QWidget>

#include "experiments/workbench.h"

class QProgressBar;
class QPushButton;

namespace winnow {

class JobButton : public QWidget {
  Q_OBJECT
 public:
  // The button is the object `name`. direction: where the progress is, seen from it.
  JobButton(Workbench* workbench, JobState::Kind kind, const QString& name, QBoxLayout::Direction direction, QWidget* parent = nullptr);
  void refresh();  // another model
  QPushButton* button() const { return button_; }

 Q_SIGNALS:
  void wanted();

 private:
  void follow(const JobState& job);
  bool mine(const JobState& job) const { return job.running && job.kind == kind_; }

  Workbench* workbench_;
  JobState::Kind kind_;
  QPushButton* button_;
  QProgressBar* progress_;
};

}  // namespace winnow
