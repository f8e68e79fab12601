// SPDX-License-Identifier: GPL-3.0-or-later
// One knob: title, state dot, apply badge, reset button, control.
#pragma once
#include <QWidget>
#include <optional>

#include "experiments/workbench.h"

class QLabel;
class QToolButton;

namespace winnow {

class KnobEditor;

// What the engine made of the value shown.
enum class KnobState { applied, pending, adjusted };

class StateDot : public QWidget {
  Q_OBJECT
 public:
  explicit StateDot(QWidget* parent);
  void setState(KnobState state, bool changed);
  KnobState state() const { return state_; }
  QSize sizeHint() const override { return {14, 14}; }

 protected:
  void paintEvent(QPaintEvent* event) override;

 private:
  KnobState state_ = KnobState::applied;
  bool changed_ = false;
};

class ApplyBadge : public QWidget {
  Q_OBJECT
 public:
  ApplyBadge(Apply apply, QWidget* parent);
  QSize sizeHint() const override;
  static QString word(Apply apply);
  static QString meaning(Apply apply);

 protected:
  void paintEvent(QPaintEvent* event) override;

 private:
  QString text_;
};

class KnobRow : public QWidget {
  Q_OBJECT
 public:
  KnobRow(const Knob& knob, QWidget* parent);
  const Knob& knob() const { return knob_; }
  KnobEditor* editor() const { return editor_; }
  void show(const KnobValue& value);                       // without a report
  void setState(KnobState state, const QString& reason, const std::optional<KnobValue>& effective);
  KnobState state() const { return dot_->state(); }
  void setBlocked(const QString& reason);                  // greyed; empty = free
  bool matches(const QString& words) const;                // name, title, help, unit
  QString cliFlag() const;                                 // --set weights.bits=4

 Q_SIGNALS:
  void edited(const winnow::KnobValue& value);
  void gestureEnded();
  void resetRequested();
  void considered(const winnow::KnobValue& value);
  void leftAlone();

 protected:
  void contextMenuEvent(QContextMenuEvent* event) override;

 private:
  void describe();
  const Knob& knob_;
  KnobEditor* editor_ = nullptr;
  StateDot* dot_ = nullptr;
  QLabel* note_ = nullptr;
  QToolButton* reset_ = nullptr;
  QString reason_, blocked_;
};

}  // namespace winnow
