// SPDX-License-Identifier: GPL-3.0-or-later
// Evaluate: perplexity and divergence on a text by a published protocol, or by depth of the context with the lines of all measurements.
#pragma once
#include <vector>

#include "app/gui/measure_dialog.h"
#include "experiments/depth_lines.h"
#include "panels/theme/theme_manager.h"

class QCheckBox;
class QComboBox;
class QLineEdit;

namespace winnow {

class ChartView;

class EvaluateDialog : public MeasureDialog {
  Q_OBJECT
 public:
  EvaluateDialog(Workbench* workbench, ThemeManager* themes, QWidget* parent);
  void setTextFile(const QString& path);

 protected:
  void start() override;

 private:
  Result<EvaluateSpec> spec() const;  // errors name the field
  bool byDepth() const;
  void fit();
  void showResult(const PerplexityResult& result, bool final);
  void showDepths(const PerplexityResult& result);
  QComboBox* text_ = nullptr;
  QLineEdit* path_ = nullptr;
  QComboBox* mode_ = nullptr;
  QSpinBox* context_ = nullptr;
  QSpinBox* chunks_ = nullptr;
  QLineEdit* depths_ = nullptr;
  QSpinBox* scored_ = nullptr;
  QComboBox* stepwise_ = nullptr;
  QCheckBox* baseline_ = nullptr;
  ChartView* chart_ = nullptr;
  std::vector<DepthLine> lines_;
  QString protocol_;  // of these
};

}  // namespace winnow
