// SPDX-License-Identifier: GPL-3.0-or-later
// One step of undo: a gesture on a knob, or a whole configuration. Undo applies the old configuration now; what happened stays
// in the run's history as another epoch.
#pragma once
#include <QUndoCommand>

#include "panels/knobs/knob_panel.h"

namespace winnow {

class KnobCommand : public QUndoCommand {
 public:
  // gesture: commands of the same gesture merge; 0 never merges.
  KnobCommand(KnobPanel* panel, const QString& text, const Config& before, const Config& after, int gesture)
      : QUndoCommand(text), panel_(panel), before_(before), after_(after), gesture_(gesture) {}

  int id() const override { return gesture_ > 0 ? 1 : -1; }
  void undo() override { panel_->apply(before_, QStringLiteral("undo")); }
  void redo() override {
    if (first_) {
      first_ = false;  // the panel has already applied what the hand did
      return;
    }
    panel_->apply(after_, QStringLiteral("redo"));
  }
  bool mergeWith(const QUndoCommand* other) override {
    const auto* next = dynamic_cast<const KnobCommand*>(other);
    if (!next || next->gesture_ != gesture_) return false;
    after_ = next->after_;
    setText(next->text());
    if (before_ == after_) setObsolete(true);
    return true;
  }

 private:
  KnobPanel* panel_;
  Config before_, after_;
  int gesture_;
  bool first_ = true;
};

}  // namespace winnow
