// SPDX-License-Identifier: GPL-3.0-or-later
// Where each head looks while the model reads a text: all heads small, one large.
#pragma once
#include <QDialog>

#include "experiments/workbench.h"
#include "panels/theme/theme.h"

class QLabel;
class QSpinBox;

namespace winnow {

class AttentionMap;
class HeadGrid;
class JobButton;
class TextChoice;

class AttentionDialog : public QDialog {
  Q_OBJECT
 public:
  AttentionDialog(Workbench* workbench, const Theme& theme, QWidget* parent = nullptr);
  void setTheme(const Theme& theme);

 private:
  QWidget* buildControls();
  void measure();
  void forget();  // another model
  void say(const QString& text, bool error = false);

  Workbench* workbench_;
  HeadGrid* grid_ = nullptr;
  AttentionMap* map_ = nullptr;
  TextChoice* text_ = nullptr;
  QSpinBox* tokens_ = nullptr;
  JobButton* measure_ = nullptr;
  QLabel *head_ = nullptr, *said_ = nullptr;
};

}  // namespace winnow
