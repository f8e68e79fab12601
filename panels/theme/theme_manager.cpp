// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/theme/theme_manager.h"

#include <QApplication>
#include <QEvent>
#include <QFont>
#include <QStyle>
#include <QStyleFactory>
#include <QStyleHints>
#include <algorithm>

namespace winnow {

ThemeManager::ThemeManager(QObject* parent) : QObject(parent) {
  systemDark_ = systemIsDark();
  theme_ = Theme::builtIn(systemDark_);
#if QT_VERSION >= QT_VERSION_CHECK(6, 5, 0)
  connect(QGuiApplication::styleHints(), &QStyleHints::colorSchemeChanged, this, [this] {
    systemDark_ = systemIsDark();
    refresh(false);
  });
#endif
}

bool ThemeManager::systemIsDark() const {
#if QT_VERSION >= QT_VERSION_CHECK(6, 5, 0)
  if (QGuiApplication::styleHints()->colorScheme() != Qt::ColorScheme::Unknown)
    return QGuiApplication::styleHints()->colorScheme() == Qt::ColorScheme::Dark;
#endif
  const QPalette palette = QGuiApplication::palette();  // before ours is set: the platform's
  return palette.color(QPalette::Window).lightnessF() < palette.color(QPalette::WindowText).lightnessF();
}

void ThemeManager::setMode(Mode mode) {
  if (mode_ == mode) return;
  mode_ = mode;
  refresh(false);
}

void ThemeManager::setFontScale(double scale) {
  scale = std::clamp(scale, 0.8, 2.0);
  if (fontScale_ == scale) return;
  fontScale_ = scale;
  refresh(true);
}

void ThemeManager::refresh(bool always) {
  const bool dark = mode_ == Mode::dark || (mode_ == Mode::system && systemDark_);
  if (!always && dark == theme_.dark) return;
  theme_ = Theme::builtIn(dark);
  restyle();
  Q_EMIT changed(theme_);
}

void ThemeManager::applyTo(QApplication* application) {
  application_ = application;
  application->setStyle(QStyleFactory::create(QStringLiteral("Fusion")));
  restyle();
  application->installEventFilter(this);
}

void ThemeManager::restyle() {
  if (!application_) return;
  restyling_ = true;
  application_->setPalette(theme_.palette());
  application_->setFont(interfaceFont(fontScale_));
  application_->setStyleSheet(theme_.styleSheet(fontScale_));
  restyling_ = false;
}

// Qt before 6.5 tells of a new system theme by this event alone; the platform's palette shows once ours is taken away.
bool ThemeManager::eventFilter(QObject* watched, QEvent* event) {
  if (watched == application_ && event->type() == QEvent::ThemeChange && !restyling_) {
    restyling_ = true;
    application_->setPalette(QPalette());
    systemDark_ = systemIsDark();
    application_->setPalette(theme_.palette());
    restyling_ = false;
    refresh(false);
  }
  return QObject::eventFilter(watched, event);
}

}  // namespace winnow
