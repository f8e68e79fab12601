// SPDX-License-Identifier: GPL-3.0-or-later
// A slider tied to a spin box, linear or logarithmic.
#pragma once
#include "panels/knobs/knob_editor.h"
#include "panels/knobs/slider_scale.h"

class QDoubleSpinBox;
class QSlider;

namespace winnow {

class SliderEditor : public KnobEditor {
  Q_OBJECT
 public:
  SliderEditor(const Knob& knob, QWidget* parent);
  void setValue(const KnobValue& value) override;
  KnobValue value() const override;
  QWidget* control() override;

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;

 private:
  KnobValue wrapped(double value) const;
  void show(double value);
  void fitUnit(double value);
  SliderScale scale_;
  bool integer_ = false;
  QString unit_;
  QSlider* slider_ = nullptr;
  QDoubleSpinBox* spin_ = nullptr;
};

}  // namespace winnow
