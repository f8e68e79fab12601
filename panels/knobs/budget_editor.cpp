// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/budget_editor.h"

#include <QComboBox>
#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QSignalBlocker>
#include <QSlider>
#include <QWheelEvent>

namespace winnow {

BudgetEditor::BudgetEditor(const Knob& knob, QWidget* parent) : KnobEditor(parent) {
  auto* row = new QHBoxLayout(this);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  const QString title = QString::fromStdString(knob.title);
  slider_ = new QSlider(Qt::Horizontal, this);
  slider_->setObjectName(knobObjectName(knob) + QStringLiteral(".slider"));
  slider_->setAccessibleName(title);
  slider_->setMinimumHeight(24);
  spin_ = new QDoubleSpinBox(this);
  spin_->setObjectName(knobObjectName(knob));
  spin_->setAccessibleName(title);
  spin_->setKeyboardTracking(false);
  spin_->setAlignment(Qt::AlignRight);
  spin_->setFixedWidth(76);
  slider_->setMinimumWidth(48);
  unit_ = new QComboBox(this);
  unit_->setObjectName(knobObjectName(knob) + QStringLiteral(".unit"));
  unit_->setAccessibleName(tr("%1: share or number of tokens").arg(title));
  unit_->setFixedWidth(std::max(90, fontMetrics().horizontalAdvance(tr("tokens")) + 60));
  unit_->addItem(tr("%"));
  unit_->addItem(tr("tokens"));
  row->addWidget(slider_, 1);
  row->addWidget(spin_);
  row->addWidget(unit_);
  for (QWidget* w : {static_cast<QWidget*>(slider_), static_cast<QWidget*>(spin_), static_cast<QWidget*>(unit_)}) {
    w->setFocusPolicy(Qt::StrongFocus);
    w->installEventFilter(this);
  }
  setMode(false);
  connect(slider_, &QSlider::valueChanged, this, [this](int position) {
    const QSignalBlocker quiet(spin_);
    spin_->setValue(scale_.valueAt(position));
    report();
    if (!slider_->isSliderDown()) Q_EMIT gestureEnded();
  });
  connect(slider_, &QSlider::sliderReleased, this, &BudgetEditor::gestureEnded);
  connect(spin_, &QDoubleSpinBox::valueChanged, this, [this](double value) {
    const QSignalBlocker quiet(slider_);
    slider_->setValue(scale_.positionOf(value));
    report();
  });
  connect(spin_, &QDoubleSpinBox::editingFinished, this, &BudgetEditor::gestureEnded);
  connect(unit_, &QComboBox::activated, this, [this](int index) {
    const bool wasTokens = scale_.whole;
    if (wasTokens == (index == 1)) return;
    const double before = spin_->value();
    setMode(index == 1);  // the same amount, said the other way, for a context filled to its end
    const QSignalBlocker quietSlider(slider_), quietSpin(spin_);
    spin_->setValue(index == 1 ? std::max(2.0, std::round(before / 100 * maximum_)) : std::clamp(before / maximum_ * 100, 1.0, 100.0));
    slider_->setValue(scale_.positionOf(spin_->value()));
    report();
    Q_EMIT gestureEnded();
  });
}

bool BudgetEditor::tokens() const { return unit_->currentIndex() == 1; }

void BudgetEditor::setMode(bool inTokens) {
  const QSignalBlocker quietUnit(unit_), quietSlider(slider_), quietSpin(spin_);
  unit_->setCurrentIndex(inTokens ? 1 : 0);
  scale_ = inTokens ? SliderScale{2, maximum_, 1, true, true} : SliderScale{1, 100, 1, false, true};
  slider_->setRange(0, scale_.positions());
  slider_->setPageStep(std::max(1, scale_.positions() / 20));
  spin_->setDecimals(0);
  spin_->setRange(scale_.minimum, inTokens ? 1048576 : 100);
  spin_->setSingleStep(inTokens ? 16 : 5);
}

void BudgetEditor::report() { Q_EMIT edited(value()); }

void BudgetEditor::setModel(const ModelConfig& model) {
  const double kept = std::get<double>(value());
  maximum_ = std::max(64, model.context);
  show(kept);
}

void BudgetEditor::setValue(const KnobValue& value) {
  const double* given = std::get_if<double>(&value);
  if (given && *given != std::get<double>(this->value())) show(*given);  // an equal one leaves what is being typed alone
}

void BudgetEditor::show(double budget) {
  const bool inTokens = budget > 1;
  setMode(inTokens);
  const QSignalBlocker quietSlider(slider_), quietSpin(spin_);
  spin_->setValue(inTokens ? budget : budget * 100);
  if (!slider_->isSliderDown()) slider_->setValue(scale_.positionOf(spin_->value()));
}

KnobValue BudgetEditor::value() const { return tokens() ? spin_->value() : spin_->value() / 100; }

QWidget* BudgetEditor::control() { return spin_; }

bool BudgetEditor::eventFilter(QObject* watched, QEvent* event) {
  if (event->type() == QEvent::Wheel && !static_cast<QWidget*>(watched)->hasFocus()) {
    event->ignore();
    return true;
  }
  return KnobEditor::eventFilter(watched, event);
}

}  // namespace winnow
