// SPDX-License-Identifier: GPL-3.0-or-later
// A row of mutually exclusive buttons for few choices: one tab stop, arrow keys move.
#pragma once
#include <QButtonGroup>

#include "panels/knobs/knob_editor.h"

class QToolButton;

namespace winnow {

class SegmentedEditor : public KnobEditor {
  Q_OBJECT
 public:
  SegmentedEditor(const Knob& knob, QWidget* parent);
  void setValue(const KnobValue& value) override;
  KnobValue value() const override;
  QWidget* control() override;

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;

 private:
  void choose(int index);
  KnobValue valueAt(int index) const;
  bool integer_ = false;
  std::vector<std::string> choices_;
  std::vector<QToolButton*> buttons_;
  QButtonGroup group_;
};

}  // namespace winnow
