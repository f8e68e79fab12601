// SPDX-License-Identifier: GPL-3.0-or-later
// The control of one knob, chosen by the declaration: check box, segmented buttons, combo box, slider tied to a spin box,
// line edit. Editors show and report values; they apply nothing.
#pragma once
#include <QWidget>

#include "experiments/workbench.h"

namespace winnow {

class KnobEditor : public QWidget {
  Q_OBJECT
 public:
  using QWidget::QWidget;
  virtual void setValue(const KnobValue& value) = 0;  // shows it, reports nothing
  virtual KnobValue value() const = 0;
  virtual void setModel(const ModelConfig&) {}        // ranges that depend on the model
  virtual QWidget* control() = 0;                     // the focusable part, named knob.<name>

 Q_SIGNALS:
  void edited(const winnow::KnobValue& value);     // every step of a gesture
  void gestureEnded();                             // slider let go, text committed, choice made
  void considered(const winnow::KnobValue& value);  // the pointer rests on a choice
  void leftAlone();                                 // no longer
};

// `name` and the accessible name come from the knob's declaration.
KnobEditor* makeKnobEditor(const Knob& knob, QWidget* parent);

QString knobObjectName(const Knob& knob);                          // "knob.weights.bits"
QString knobValueText(const Knob& knob, const KnobValue& value);   // for a person, with its unit

}  // namespace winnow
