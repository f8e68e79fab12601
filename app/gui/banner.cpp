// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/banner.h"

#include <QAccessible>
#include <QApplication>
#include <QClipboard>
#include <QHBoxLayout>
#include <QLabel>
#include <QStyle>
#include <QToolButton>

namespace winnow {

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
  message_ = message;
  hint_ = hint;
  tone_ = tone;
  setProperty("role", tone == Tone::error ? QStringLiteral("error") : QStringLiteral("notice"));
  style()->unpolish(this);
  style()->polish(this);
  for (QWidget* child : findChildren<QWidget*>()) {  // descendant rules follow the property
    child->style()->unpolish(child);
    child->style()->polish(child);
  }
  text_->setText(hint.isEmpty() ? message : QStringLiteral("%1\n%2").arg(message, hint));
  copy_->setVisible(tone == Tone::error);
  setAccessibleName(text_->text());
  QWidget::show();
  QAccessibleEvent event(this, QAccessible::Alert);
  QAccessible::updateAccessibility(&event);
}

}  // namespace winnow
