// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/knob_editor.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileDialog>
#include <QHBoxLayout>
#include <QLineEdit>
#include <QSignalBlocker>
#include <QToolButton>
#include <QWheelEvent>

#include "panels/knobs/budget_editor.h"
#include "panels/knobs/segmented_editor.h"
#include "panels/knobs/slider_editor.h"

namespace winnow {
namespace {

class CheckEditor : public KnobEditor {
 public:
  CheckEditor(const Knob& knob, QWidget* parent) : KnobEditor(parent), box_(new QCheckBox(this)) {
    auto* row = new QHBoxLayout(this);
    row->setContentsMargins(0, 0, 0, 0);
    row->addWidget(box_);
    box_->setText(QString::fromStdString(knob.title));
    box_->setObjectName(knobObjectName(knob));
    box_->setMinimumHeight(24);
    connect(box_, &QCheckBox::toggled, this, [this](bool on) {
      Q_EMIT edited(on);
      Q_EMIT gestureEnded();
    });
  }
  void setValue(const KnobValue& value) override {
    const QSignalBlocker quiet(box_);
    if (const bool* on = std::get_if<bool>(&value)) box_->setChecked(*on);
  }
  KnobValue value() const override { return box_->isChecked(); }
  QWidget* control() override { return box_; }

 private:
  QCheckBox* box_;
};

class ComboEditor : public KnobEditor {
 public:
  ComboEditor(const Knob& knob, QWidget* parent) : KnobEditor(parent), integer_(knob.type == KnobType::integer), box_(new QComboBox(this)) {
    auto* row = new QHBoxLayout(this);
    row->setContentsMargins(0, 0, 0, 0);
    row->addWidget(box_);
    for (const std::string& choice : knob.choices) box_->addItem(QString::fromStdString(choice));
    box_->setObjectName(knobObjectName(knob));
    box_->setAccessibleName(QString::fromStdString(knob.title));
    box_->setMinimumHeight(24);
    box_->setFocusPolicy(Qt::StrongFocus);
    box_->installEventFilter(this);
    connect(box_, &QComboBox::currentIndexChanged, this, [this] {
      Q_EMIT edited(value());
      Q_EMIT gestureEnded();
    });
    connect(box_, &QComboBox::highlighted, this, [this](int index) { Q_EMIT considered(at(index)); });
  }
  void setValue(const KnobValue& value) override {
    const QSignalBlocker quiet(box_);
    box_->setCurrentText(QString::fromStdString(toText(value)));
  }
  KnobValue value() const override { return at(box_->currentIndex()); }
  QWidget* control() override { return box_; }

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override {
    if (event->type() == QEvent::Wheel && !box_->hasFocus()) {
      event->ignore();
      return true;
    }
    return KnobEditor::eventFilter(watched, event);
  }

 private:
  KnobValue at(int index) const {
    const QString text = box_->itemText(index);
    if (integer_) return static_cast<int64_t>(text.toLongLong());
    return text.toStdString();
  }
  bool integer_;
  QComboBox* box_;
};

class LineEditor : public KnobEditor {
 public:
  LineEditor(const Knob& knob, QWidget* parent) : KnobEditor(parent), edit_(new QLineEdit(this)) {
    auto* row = new QHBoxLayout(this);
    row->setContentsMargins(0, 0, 0, 0);
    row->setSpacing(4);
    row->addWidget(edit_, 1);
    edit_->setObjectName(knobObjectName(knob));
    edit_->setAccessibleName(QString::fromStdString(knob.title));
    edit_->setMinimumHeight(24);
    if (knob.type == KnobType::path) {
      auto* browse = new QToolButton(this);
      browse->setText(QStringLiteral("…"));
      browse->setMinimumSize(28, 24);
      browse->setAccessibleName(tr("Choose a file for %1").arg(QString::fromStdString(knob.title)));
      browse->setToolTip(tr("Choose a file"));
      row->addWidget(browse);
      connect(browse, &QToolButton::clicked, this, [this] {
        const QString path = QFileDialog::getOpenFileName(this, tr("Choose a file"), edit_->text());
        if (path.isEmpty()) return;
        edit_->setText(path);
        commit();
      });
    }
    connect(edit_, &QLineEdit::editingFinished, this, [this] { commit(); });
  }
  void setValue(const KnobValue& value) override {
    const QString text = QString::fromStdString(toText(value));
    if (text == shown_) return;  // what is being typed stays
    shown_ = text;
    edit_->setText(shown_);
  }
  KnobValue value() const override { return edit_->text().toStdString(); }
  QWidget* control() override { return edit_; }

 private:
  void commit() {
    if (edit_->text() == shown_) return;
    shown_ = edit_->text();
    Q_EMIT edited(value());
    Q_EMIT gestureEnded();
  }
  QLineEdit* edit_;
  QString shown_;
};

// Few choices whose words fit beside each other in the narrowest panel.
bool fitsSegments(const Knob& knob, const QFontMetrics& metrics) {
  int widest = 0;
  for (const std::string& choice : knob.choices) widest = std::max(widest, metrics.horizontalAdvance(QString::fromStdString(choice)));
  const int count = static_cast<int>(knob.choices.size());
  return count <= 8 && count * (widest + 14) <= 250;
}

}  // namespace

KnobEditor* makeKnobEditor(const Knob& knob, QWidget* parent) {
  switch (knob.type) {
    case KnobType::boolean: return new CheckEditor(knob, parent);
    case KnobType::enumeration:
    case KnobType::integer:
      if (!knob.choices.empty()) {
        if (fitsSegments(knob, parent->fontMetrics())) return new SegmentedEditor(knob, parent);
        return new ComboEditor(knob, parent);
      }
      [[fallthrough]];
    case KnobType::real:
      if (knob.name == "kv.budget") return new BudgetEditor(knob, parent);
      if (knob.type != KnobType::enumeration) return new SliderEditor(knob, parent);
      [[fallthrough]];
    case KnobType::text:
    case KnobType::path: break;
  }
  return new LineEditor(knob, parent);
}

QString knobObjectName(const Knob& knob) { return QStringLiteral("knob.") + QString::fromStdString(knob.name); }

QString knobValueText(const Knob& knob, const KnobValue& value) {
  const QString text = QString::fromStdString(toText(value));
  if (text.isEmpty()) return QWidget::tr("empty");
  if (knob.unit.empty() || knob.type == KnobType::enumeration) return text;
  return text + QStringLiteral(" ") + QString::fromStdString(knob.unit);
}

}  // namespace winnow
