// SPDX-License-Identifier: GPL-3.0-or-later
// The status bar: device, memory, speed, weights in preparation, session. Each chip is a button.
#pragma once
#include <QElapsedTimer>
#include <QObject>
#include <QTimer>

#include "app/gui/machine.h"
#include "experiments/workbench.h"

class QProgressBar;
class QStatusBar;
class QToolButton;

namespace winnow {

class StatusChips : public QObject {
  Q_OBJECT
 public:
  StatusChips(QStatusBar* bar, Workbench* workbench, const MachineInfo& machine);
  void addTokens(const std::vector<TokenPoint>& points);
  void refresh();            // model, session, configuration

 Q_SIGNALS:
  void deviceClicked();
  void memoryClicked();
  void speedClicked();
  void sessionClicked();
  void weightsClicked();

 private:
  QToolButton* chip(const QString& name, const QString& what);
  void tick();
  QStatusBar* bar_;
  Workbench* workbench_;
  MachineInfo machine_;
  QToolButton* device_;
  QToolButton* memory_;
  QToolButton* speed_;
  QToolButton* weights_;
  QToolButton* session_;
  QTimer timer_;
  std::vector<double> recentMs_;   // of the last tokens
  int64_t memoryBytes_ = 0;
};

}  // namespace winnow
