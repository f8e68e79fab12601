// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/knob_row.h"

#include <QApplication>
#include <QClipboard>
#include <QContextMenuEvent>
#include <QHBoxLayout>
#include <QLabel>
#include <QMenu>
#include <QPainter>
#include <QPainterPath>
#include <QStyle>
#include <QToolButton>
#include <QVBoxLayout>

#include "panels/knobs/knob_editor.h"
#include "panels/text/wording.h"
#include "panels/theme/theme.h"

namespace winnow {
namespace {

// The notice colours, told apart by the palette alone: rows need nothing else of the theme.
QColor amber(const QPalette& palette) {
  static const Theme themes[] = {Theme::builtIn(false), Theme::builtIn(true)};
  return themes[palette.color(QPalette::Window).lightness() < 128].noticeText;
}
QColor soft(const QPalette& palette) { return palette.color(QPalette::PlaceholderText); }

}  // namespace

StateDot::StateDot(QWidget* parent) : QWidget(parent) { setFixedSize(14, 14); }

void StateDot::setState(KnobState state, bool changed) {
  state_ = state;
  changed_ = changed;
  update();
}

void StateDot::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  if (state_ == KnobState::adjusted) {  // a triangle, so that colour is not the only sign
    QPainterPath triangle;
    triangle.moveTo(7, 1.5);
    triangle.lineTo(13, 12.5);
    triangle.lineTo(1, 12.5);
    triangle.closeSubpath();
    painter.fillPath(triangle, amber(palette()));
    painter.setPen(QPen(palette().color(QPalette::Window), 1.6));
    painter.drawLine(QPointF(7, 5.5), QPointF(7, 8.5));
    painter.drawPoint(QPointF(7, 10.7));
    return;
  }
  const QRectF circle(3, 3, 8, 8);
  if (state_ == KnobState::pending) {
    painter.setPen(QPen(palette().color(QPalette::Highlight), 1.6));
    painter.drawEllipse(circle);
  } else if (changed_) {
    painter.setPen(Qt::NoPen);
    painter.setBrush(palette().color(QPalette::Highlight));
    painter.drawEllipse(circle);
  }
}

ApplyBadge::ApplyBadge(Apply apply, QWidget* parent) : QWidget(parent), text_(word(apply)) {
  setToolTip(meaning(apply));
  setAccessibleName(meaning(apply));
  setSizePolicy(QSizePolicy::Fixed, QSizePolicy::Fixed);
}

QString ApplyBadge::word(Apply apply) {
  switch (apply) {
    case Apply::nextToken: return tr("next token");
    case Apply::rebuildCache: return tr("cache");
    case Apply::prepareWeights: return tr("weights");
    case Apply::reload: return tr("reload");
  }
  return {};
}

QString ApplyBadge::meaning(Apply apply) {
  switch (apply) {
    case Apply::nextToken: return tr("Acts at the next token.");
    case Apply::rebuildCache: return tr("Narrowing acts at the next token; widening needs the cache recomputed.");
    case Apply::prepareWeights: return tr("Acts as soon as the weights are prepared in the background; text goes on meanwhile.");
    case Apply::reload: return tr("Acts when the model is opened again.");
  }
  return {};
}

QSize ApplyBadge::sizeHint() const {
  const QFont small = scaledFont(font(), 0.85);
  const QFontMetrics metrics(small);
  return {metrics.horizontalAdvance(text_) + 12, metrics.height() + 4};
}

void ApplyBadge::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  painter.setFont(scaledFont(font(), 0.85));
  QColor line = soft(palette());
  painter.setPen(QPen(line, 1));
  painter.drawRoundedRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4);
  painter.drawText(rect(), Qt::AlignCenter, text_);
}

KnobRow::KnobRow(const Knob& knob, QWidget* parent) : QWidget(parent), knob_(knob) {
  setObjectName(QStringLiteral("row.") + QString::fromStdString(knob.name));
  editor_ = makeKnobEditor(knob, this);
  dot_ = new StateDot(this);
  reset_ = new QToolButton(this);
  reset_->setText(QStringLiteral("↺"));
  reset_->setAutoRaise(true);
  reset_->setProperty("tight", true);
  QSizePolicy kept = reset_->sizePolicy();
  kept.setRetainSizeWhenHidden(true);
  reset_->setSizePolicy(kept);
  reset_->setFixedSize(24, 24);
  reset_->setObjectName(knobObjectName(knob) + QStringLiteral(".reset"));
  reset_->setAccessibleName(tr("Reset %1 to its default").arg(QString::fromStdString(knob.title)));
  reset_->setToolTip(tr("Default: %1").arg(knobValueText(knob, knob.defaultValue)));
  connect(reset_, &QToolButton::clicked, this, &KnobRow::resetRequested);

  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(10, 4, 6, 4);
  all->setSpacing(2);
  auto* head = new QHBoxLayout;
  head->setSpacing(6);
  head->addWidget(dot_);
  if (knob.type == KnobType::boolean) {
    head->addWidget(editor_, 1);
  } else {
    auto* title = new QLabel(QString::fromStdString(knob.title), this);
    title->setBuddy(editor_->control());
    head->addWidget(title);
    if (!knob.unit.empty() && !knob.choices.empty()) {
      auto* unit = new QLabel(QString::fromStdString(knob.unit), this);
      unit->setForegroundRole(QPalette::PlaceholderText);
      head->addWidget(unit);
    }
    head->addStretch(1);
  }
  head->addWidget(new ApplyBadge(knob.apply, this));
  head->addWidget(reset_);
  all->addLayout(head);
  if (knob.type != KnobType::boolean) {
    auto* body = new QHBoxLayout;
    body->setContentsMargins(20, 0, 0, 0);
    body->addWidget(editor_, 1);
    all->addLayout(body);
  }
  note_ = new QLabel(this);
  note_->setWordWrap(true);
  note_->setObjectName(knobObjectName(knob) + QStringLiteral(".note"));
  note_->hide();
  auto* below = new QHBoxLayout;
  below->setContentsMargins(20, 0, 0, 0);
  below->addWidget(note_);
  all->addLayout(below);

  connect(editor_, &KnobEditor::edited, this, &KnobRow::edited);
  connect(editor_, &KnobEditor::gestureEnded, this, &KnobRow::gestureEnded);
  connect(editor_, &KnobEditor::considered, this, &KnobRow::considered);
  connect(editor_, &KnobEditor::leftAlone, this, &KnobRow::leftAlone);
  describe();
}

void KnobRow::show(const KnobValue& value) {
  editor_->setValue(value);
  reset_->setVisible(value != knob_.defaultValue);
  reset_->setEnabled(value != knob_.defaultValue && blocked_.isEmpty());
  dot_->setState(dot_->state(), value != knob_.defaultValue);
}

void KnobRow::setState(KnobState state, const QString& reason, const std::optional<KnobValue>& effective) {
  dot_->setState(state, editor_->value() != knob_.defaultValue);
  reason_ = reason;
  if (effective) {
    const QString role = state == KnobState::adjusted ? QStringLiteral("notice") : QStringLiteral("small");
    if (note_->property("role").toString() != role) {
      note_->setProperty("role", role);
      note_->style()->unpolish(note_);
      note_->style()->polish(note_);
    }
    const QString value = knobValueText(knob_, *effective);
    note_->setText(state == KnobState::adjusted ? tr("Running %1: %2").arg(value, reason) : tr("In effect: %1").arg(value));
    note_->show();
  } else {
    note_->hide();
  }
  dot_->setToolTip(state == KnobState::pending    ? tr("Asked for; the engine has not taken it up yet")
                   : state == KnobState::adjusted ? reason
                                                  : tr("In effect"));
  describe();
}

void KnobRow::setBlocked(const QString& reason) {
  if (blocked_ == reason && editor_->isEnabled() == reason.isEmpty()) return;
  blocked_ = reason;
  editor_->setEnabled(reason.isEmpty());
  reset_->setEnabled(reason.isEmpty() && editor_->value() != knob_.defaultValue);
  describe();
}

void KnobRow::describe() {
  QString tip = QStringLiteral("<p><b>%1</b> · %2</p><p>%3</p>")
                    .arg(QString::fromStdString(knob_.title).toHtmlEscaped(), QString::fromStdString(knob_.name).toHtmlEscaped(),
                         QString::fromStdString(knob_.help).toHtmlEscaped());
  if (!knob_.paper.empty()) tip += QStringLiteral("<p>%1</p>").arg(QString::fromStdString(knob_.paper).toHtmlEscaped());
  if (!blocked_.isEmpty()) tip += QStringLiteral("<p>%1</p>").arg(tr("Off: %1").arg(blocked_).toHtmlEscaped());
  setToolTip(tip);
  editor_->setToolTip(tip);
  QString spoken = QString::fromStdString(knob_.help) + QLatin1Char(' ') + ApplyBadge::meaning(knob_.apply);
  if (!blocked_.isEmpty()) spoken += QLatin1Char(' ') + tr("Off: %1").arg(blocked_);
  if (!reason_.isEmpty()) spoken += QLatin1Char(' ') + reason_;
  editor_->control()->setAccessibleDescription(spoken);
  setAccessibleDescription(spoken);
}

bool KnobRow::matches(const QString& words) const {
  const QString all = QString::fromStdString(knob_.name + ' ' + knob_.title + ' ' + knob_.group + ' ' + knob_.help + ' ' + knob_.unit);
  const QStringList parts = words.split(QLatin1Char(' '), Qt::SkipEmptyParts);
  return std::all_of(parts.begin(), parts.end(), [&](const QString& part) { return all.contains(part, Qt::CaseInsensitive); });
}

QString KnobRow::cliFlag() const {
  return QStringLiteral("--set %1=%2").arg(QString::fromStdString(knob_.name), QString::fromStdString(toText(editor_->value())));
}

void KnobRow::contextMenuEvent(QContextMenuEvent* event) {
  QMenu menu(this);
  menu.addAction(tr("Copy value"), this, [this] { QApplication::clipboard()->setText(QString::fromStdString(toText(editor_->value()))); });
  menu.addAction(tr("Copy command-line flag"), this, [this] { QApplication::clipboard()->setText(cliFlag()); });
  menu.addSeparator();
  QAction* reset = menu.addAction(tr("Reset to %1").arg(knobValueText(knob_, knob_.defaultValue)), this, &KnobRow::resetRequested);
  reset->setEnabled(reset_->isEnabled());
  menu.exec(event->globalPos());
}

}  // namespace winnow
