// SPDX-License-Identifier: GPL-3.0-or-later
// kv.budget is a share of the tokens up to 1 and a number of tokens from 2 on: two meanings, so two modes and one slider.
#pragma once
#include "panels/knobs/knob_editor.h"
#include "panels/knobs/slider_scale.h"

class QDoubleSpinBox;
class QSlider;
class QComboBox;

namespace winnow {

class BudgetEditor : public KnobEditor {
  Q_OBJECT
 public:
  BudgetEditor(const Knob& knob, QWidget* parent);
  void setModel(const ModelConfig& model) override;  // tokens go up to its context
  void setValue(const KnobValue& value) override;
  KnobValue value() const override;
  QWidget* control() override;

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;

 private:
  bool tokens() const;
  void setMode(bool tokens);
  void report();
  void show(double budget);
  SliderScale scale_;
  double maximum_ = 4096;  // tokens
  QComboBox* unit_ = nullptr;
  QSlider* slider_ = nullptr;
  QDoubleSpinBox* spin_ = nullptr;
};

}  // namespace winnow
