// SPDX-License-Identifier: GPL-3.0-or-later
// How much of the attention over a text the present cache setting keeps, by layer and head.
#pragma once
#include <QDialog>

#include "experiments/workbench.h"
#include "panels/theme/theme.h"

class QLabel;
class QSpinBox;

namespace winnow {

class JobButton;
class KeptMassMap;
class TextChoice;

class KeptMassDialog : public QDialog {
  Q_OBJECT
 public:
  KeptMassDialog(Workbench* workbench, const Theme& theme, QWidget* parent = nullptr);
  void setTheme(const Theme& theme);

 private:
  QWidget* buildControls();
  void measure();
  void forget();  // another model
  void showKept(const KeptMass& kept, const Config& config);
  void say(const QString& text, bool error = false);

  Workbench* workbench_;
  KeptMassMap* map_ = nullptr;
  TextChoice* text_ = nullptr;
  QSpinBox* tokens_ = nullptr;
  JobButton* measure_ = nullptr;
  QLabel *all_ = nullptr, *said_ = nullptr;
};

}  // namespace winnow
