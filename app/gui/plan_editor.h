// SPDX-License-Identifier: GPL-3.0-or-later
// Makes a plan by hand: axes over any knobs of the schema, experiments, repeats. The knobs as they stand are its base.
#pragma once
#include <QWidget>
#include <optional>
#include <vector>

#include "experiments/workbench.h"

class QCheckBox;
class QComboBox;
class QGridLayout;
class QLabel;
class QLineEdit;
class QSpinBox;
class QToolButton;
class QVBoxLayout;

namespace winnow {

class PlanEditor : public QWidget {
  Q_OBJECT
 public:
  explicit PlanEditor(QWidget* parent);
  void setBase(const Config& config);                    // the knobs that no axis moves
  void setModel(const std::optional<ModelInfo>& model);
  void setPrompt(const QString& prompt);
  Result<PlanFile> plan() const;                         // or what is wrong, in one sentence
  void addAxis(const QString& knob, const QString& values);
  static QString suggestedValues(const Knob& knob);

 Q_SIGNALS:
  void changed();

 private:
  struct AxisRow {
    QWidget* box;
    QComboBox* knob;
    QLineEdit* values;
  };
  QWidget* buildAxes();
  QWidget* buildExperiments();
  void buildMeasurements(QGridLayout* grid);
  void buildTexts(QGridLayout* grid);
  QCheckBox* kind(QGridLayout* grid, int row, const QString& text, const QString& name, bool on);
  QSpinBox* number(QGridLayout* grid, int row, int column, const QString& label, const QString& name, int low, int high, int value);
  void removeAxis(QWidget* box);
  void describeBase();
  std::vector<Experiment> experiments() const;

  Config base_;
  QString model_, prompt_;
  std::vector<AxisRow> axes_;
  QVBoxLayout* axisColumn_ = nullptr;
  QLabel* baseText_ = nullptr;
  QLineEdit* name_ = nullptr;
  QSpinBox* repeats_ = nullptr;
  QCheckBox *evaluate_ = nullptr, *bench_ = nullptr, *generate_ = nullptr, *attribute_ = nullptr, *retrieve_ = nullptr;
  QSpinBox *context_ = nullptr, *chunks_ = nullptr, *benchPrompt_ = nullptr, *benchTokens_ = nullptr, *benchRepetitions_ = nullptr,
           *tokens_ = nullptr, *retrieveLength_ = nullptr, *retrieveTrials_ = nullptr;
  QLineEdit *text_ = nullptr, *attributeText_ = nullptr, *question_ = nullptr;
};

}  // namespace winnow
