// SPDX-License-Identifier: GPL-3.0-or-later
// Retrieval: facts hidden at depths of contexts, asked of the configuration of the knobs; a row for each measurement, and the map of the latest.
#pragma once
#include "app/gui/measure_dialog.h"
#include "panels/theme/theme_manager.h"

class QCheckBox;
class QComboBox;
class QLineEdit;

namespace winnow {

class ChartView;
class TextChoice;

class RetrievalDialog : public MeasureDialog {
  Q_OBJECT
 public:
  RetrievalDialog(Workbench* workbench, ThemeManager* themes, QWidget* parent);

 protected:
  void start() override;

 private:
  Result<RetrieveSpec> spec() const;  // errors name the field
  void showResult(const RetrievalResult& result, bool final);
  void fit();

  QComboBox* task_ = nullptr;
  QLineEdit *lengths_ = nullptr, *depths_ = nullptr;
  QSpinBox* trials_ = nullptr;
  TextChoice* text_ = nullptr;
  QComboBox* order_ = nullptr;
  QCheckBox* baseline_ = nullptr;
  ChartView* map_ = nullptr;
};

}  // namespace winnow
