// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/segmented_editor.h"

#include <QEvent>
#include <QHBoxLayout>
#include <QKeyEvent>
#include <QToolButton>

namespace winnow {

SegmentedEditor::SegmentedEditor(const Knob& knob, QWidget* parent)
    : KnobEditor(parent), integer_(knob.type == KnobType::integer), choices_(knob.choices) {
  setObjectName(knobObjectName(knob));
  setAccessibleName(QString::fromStdString(knob.title));
  auto* row = new QHBoxLayout(this);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(0);
  group_.setExclusive(true);
  for (size_t i = 0; i < choices_.size(); ++i) {
    auto* button = new QToolButton(this);
    const QString text = QString::fromStdString(choices_[i]);
    button->setText(text);
    button->setCheckable(true);
    button->setProperty("segment", choices_.size() == 1       ? QStringLiteral("only")
                                   : i == 0                   ? QStringLiteral("first")
                                   : i + 1 == choices_.size() ? QStringLiteral("last")
                                                              : QStringLiteral("middle"));
    button->setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    button->setMinimumSize(20, 24);
    button->setFocusPolicy(Qt::NoFocus);
    button->setObjectName(knobObjectName(knob) + QLatin1Char('.') + text);
    button->setAccessibleName(
        QStringLiteral("%1: %2 %3").arg(QString::fromStdString(knob.title), text, QString::fromStdString(knob.unit)).trimmed());
    button->installEventFilter(this);
    group_.addButton(button, static_cast<int>(i));
    row->addWidget(button, 1);
    buttons_.push_back(button);
  }
  connect(&group_, &QButtonGroup::idClicked, this, [this](int index) { choose(index); });
  if (!buttons_.empty()) buttons_.front()->setFocusPolicy(Qt::StrongFocus);
}

KnobValue SegmentedEditor::valueAt(int index) const {
  const std::string& text = choices_[static_cast<size_t>(index)];
  if (integer_) return static_cast<int64_t>(QString::fromStdString(text).toLongLong());
  return text;
}

void SegmentedEditor::choose(int index) {
  for (size_t i = 0; i < buttons_.size(); ++i) buttons_[i]->setFocusPolicy(static_cast<int>(i) == index ? Qt::StrongFocus : Qt::NoFocus);
  Q_EMIT edited(valueAt(index));
  Q_EMIT gestureEnded();
}

void SegmentedEditor::setValue(const KnobValue& value) {
  const std::string text = toText(value);
  bool any = false;
  for (size_t i = 0; i < choices_.size(); ++i) {
    const bool on = choices_[i] == text;
    if (on) buttons_[i]->setChecked(true);
    buttons_[i]->setFocusPolicy(on ? Qt::StrongFocus : Qt::NoFocus);
    any = any || on;
  }
  if (!any && !buttons_.empty()) buttons_.front()->setFocusPolicy(Qt::StrongFocus);
}

KnobValue SegmentedEditor::value() const {
  const int index = group_.checkedId();
  return valueAt(index < 0 ? 0 : index);
}

QWidget* SegmentedEditor::control() {
  const int index = group_.checkedId();
  return buttons_.empty() ? static_cast<QWidget*>(this) : buttons_[static_cast<size_t>(index < 0 ? 0 : index)];
}

void SegmentedEditor::focusInEvent(QFocusEvent*) { control()->setFocus(); }

bool SegmentedEditor::eventFilter(QObject* watched, QEvent* event) {
  auto* button = qobject_cast<QToolButton*>(watched);
  if (button && event->type() == QEvent::KeyPress) {
    const int key = static_cast<QKeyEvent*>(event)->key();
    const int move = key == Qt::Key_Left || key == Qt::Key_Up ? -1 : key == Qt::Key_Right || key == Qt::Key_Down ? 1 : 0;
    if (move != 0) {
      const int next = std::clamp(group_.id(button) + move, 0, static_cast<int>(buttons_.size()) - 1);
      if (next != group_.checkedId()) {
        buttons_[static_cast<size_t>(next)]->setChecked(true);
        choose(next);
      }
      buttons_[static_cast<size_t>(next)]->setFocus();
      return true;
    }
  }
  if (button && isEnabled() && event->type() == QEvent::Enter) Q_EMIT considered(valueAt(group_.id(button)));
  if (button && event->type() == QEvent::Leave) Q_EMIT leftAlone();
  return KnobEditor::eventFilter(watched, event);
}

}  // namespace winnow
