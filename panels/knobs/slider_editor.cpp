// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/slider_editor.h"

#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QSignalBlocker>
#include <QSlider>
#include <QWheelEvent>

namespace winnow {

SliderEditor::SliderEditor(const Knob& knob, QWidget* parent) : KnobEditor(parent), integer_(knob.type == KnobType::integer) {
  scale_ = {knob.minimum, knob.maximum, knob.step, knob.logarithmic, integer_};
  auto* row = new QHBoxLayout(this);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  slider_ = new QSlider(Qt::Horizontal, this);
  slider_->setRange(0, scale_.positions());
  slider_->setPageStep(std::max(1, scale_.logarithmic ? scale_.positions() / 20 : std::min(10, scale_.positions() / 4)));
  slider_->setObjectName(knobObjectName(knob) + QStringLiteral(".slider"));
  slider_->setAccessibleName(QString::fromStdString(knob.title));
  slider_->setMinimumHeight(24);
  spin_ = new QDoubleSpinBox(this);
  spin_->setObjectName(knobObjectName(knob));
  spin_->setAccessibleName(QString::fromStdString(knob.title));
  const int decimals = integer_ ? 0 : knob.step >= 1 ? 0 : knob.step >= 0.1 ? 1 : knob.step >= 0.01 ? 2 : knob.step >= 0.001 ? 3 : 4;
  spin_->setDecimals(decimals);
  spin_->setRange(knob.minimum, knob.maximum);
  spin_->setSingleStep(knob.step > 0 ? knob.step : 1);
  spin_->setKeyboardTracking(false);
  spin_->setGroupSeparatorShown(false);
  spin_->setFixedWidth(knob.unit.empty() ? 84 : 120);
  slider_->setMinimumWidth(48);
  spin_->setAlignment(Qt::AlignRight);
  unit_ = QString::fromStdString(knob.unit);
  fitUnit(spin_->value());
  if (integer_ && knob.minimum == -1) spin_->setSpecialValueText(tr("auto"));  // the method chooses
  row->addWidget(slider_, 1);
  row->addWidget(spin_);
  for (QWidget* w : {static_cast<QWidget*>(slider_), static_cast<QWidget*>(spin_)}) {
    w->setFocusPolicy(Qt::StrongFocus);
    w->installEventFilter(this);
  }
  connect(slider_, &QSlider::valueChanged, this, [this](int position) {
    const double value = scale_.valueAt(position);
    {
      const QSignalBlocker quiet(spin_);
      spin_->setValue(value);
      fitUnit(value);
    }
    Q_EMIT edited(wrapped(value));
    if (!slider_->isSliderDown()) Q_EMIT gestureEnded();
  });
  connect(slider_, &QSlider::sliderReleased, this, &SliderEditor::gestureEnded);
  connect(spin_, &QDoubleSpinBox::valueChanged, this, [this](double value) {
    {
      const QSignalBlocker quiet(slider_);
      slider_->setValue(scale_.positionOf(value));
      fitUnit(value);
    }
    Q_EMIT edited(wrapped(value));
  });
  connect(spin_, &QDoubleSpinBox::editingFinished, this, &SliderEditor::gestureEnded);
}

// "4 layers", "1 layer".
void SliderEditor::fitUnit(double value) {
  if (unit_.isEmpty()) return;
  const QString one = unit_.endsWith(QLatin1Char('s')) ? unit_.chopped(1) : unit_;
  const QString suffix = QLatin1Char(' ') + (value == 1 ? one : unit_);
  if (spin_->suffix() != suffix) spin_->setSuffix(suffix);
}

KnobValue SliderEditor::wrapped(double value) const {
  if (integer_) return static_cast<int64_t>(std::llround(value));
  return value;
}

void SliderEditor::show(double value) {
  const QSignalBlocker quietSlider(slider_), quietSpin(spin_);
  // An equal value leaves the text alone (somebody may be typing) and the slider where it is (many positions, one value).
  if (spin_->value() != value) spin_->setValue(value);
  fitUnit(value);
  if (!slider_->isSliderDown() && scale_.valueAt(slider_->value()) != value) slider_->setValue(scale_.positionOf(value));
}

void SliderEditor::setValue(const KnobValue& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) show(static_cast<double>(*i));
  if (const auto* d = std::get_if<double>(&value)) show(*d);
}

KnobValue SliderEditor::value() const { return wrapped(spin_->value()); }

QWidget* SliderEditor::control() { return spin_; }

bool SliderEditor::eventFilter(QObject* watched, QEvent* event) {
  // The wheel scrolls the panel unless the control has the focus.
  if (event->type() == QEvent::Wheel && !static_cast<QWidget*>(watched)->hasFocus()) {
    event->ignore();
    return true;
  }
  return KnobEditor::eventFilter(watched, event);
}

}  // namespace winnow
