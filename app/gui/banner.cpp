// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/banner.h"

#include <QAccessible>
#include <QApplication>
#include <QClipboard>
#include <QHBoxLayout>
#include <QLabel>
#include <QStyle>
#include <QToolButton>
#include <algorithm>

namespace winnow {

namespace {

// Messages of the engine are clauses; on their own they are sentences. A path or a name keeps its case.
QString sentence(QString text) {
  text = text.trimmed();
  if (text.isEmpty()) return text;
  const QString first = text.section(QLatin1Char(' '), 0, 0);
  if (std::all_of(first.begin(), first.end(), [](QChar c) { return c.isLower() || c == QLatin1Char(','); })) text[0] = text[0].toUpper();
  if (!QStringLiteral(".!?:…)").contains(text.back())) text += QLatin1Char('.');
  return text;
}

}  // namespace

Banner::Banner(QWidget* parent) : QFrame(parent) {
  setObjectName(QStringLiteral("banner"));
  auto* row = new QHBoxLayout(this);
  row->setContentsMargins(12, 6, 8, 6);
  text_ = new QLabel(this);
  text_->setWordWrap(true);
  text_->setTextFormat(Qt::PlainText);
  text_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  text_->setFocusPolicy(Qt::NoFocus);
  text_->setObjectName(QStringLiteral("banner.text"));
  copy_ = new QToolButton(this);
  copy_->setText(tr("Copy details"));
  auto* close = new QToolButton(this);
  close->setText(QStringLiteral("✕"));
  close->setAccessibleName(tr("Close this message"));
  close->setObjectName(QStringLiteral("banner.close"));
  row->addWidget(text_, 1);
  row->addWidget(copy_);
  row->addWidget(close);
  connect(copy_, &QToolButton::clicked, this, [this] {
    QApplication::clipboard()->setText(QStringLiteral("%1\n%2\nWinnow %3").arg(message_, hint_, QApplication::applicationVersion()));
  });
  connect(close, &QToolButton::clicked, this, &QWidget::hide);
  hide();
}

void Banner::show(Tone tone, const QString& message, const QString& hint) {
  message_ = sentence(message);
  hint_ = sentence(hint);
  tone_ = tone;
  setProperty("role", tone == Tone::error ? QStringLiteral("error") : QStringLiteral("notice"));
  style()->unpolish(this);
  style()->polish(this);
  for (QWidget* child : findChildren<QWidget*>()) {  // descendant rules follow the property
    child->style()->unpolish(child);
    child->style()->polish(child);
  }
  text_->setText(hint_.isEmpty() ? message_ : QStringLiteral("%1 %2").arg(message_, hint_));
  copy_->setVisible(tone == Tone::error);
  setAccessibleName(text_->text());
  QWidget::show();
  QAccessibleEvent event(this, QAccessible::Alert);
  QAccessible::updateAccessibility(&event);
}

}  // namespace winnow
