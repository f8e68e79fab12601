// SPDX-License-Identifier: GPL-3.0-or-later
// Support of the widget tests: the program's style, and Qt warnings that fail the test they appear in.
#pragma once
#include <QAccessible>
#include <QApplication>
#include <QDir>
#include <QFileInfo>
#include <QRegularExpression>
#include <QStandardPaths>
#include <QTest>
#include <QWidget>

#include "panels/theme/theme_manager.h"

// Inside "private Q_SLOTS:" of the test class.
#if QT_VERSION >= QT_VERSION_CHECK(6, 3, 0)
#define WINNOW_FAIL_ON_WARNINGS \
  void init() { QTest::failOnWarning(QRegularExpression(QStringLiteral("^(?!This plugin does not support)"))); }
#else
#define WINNOW_FAIL_ON_WARNINGS \
  void init() {}
#endif

namespace winnow::testing {

// Pictures a test leaves beside its program, for people to look at.
inline QString pictureFolder() {
  const QString folder = QCoreApplication::applicationDirPath() + QStringLiteral("/pictures");
  QDir().mkpath(folder);
  return folder;
}

inline QString sharedData(const QString& path) { return QStringLiteral(WINNOW_SHARED_DATA "/") + path; }

// A child by object name, of whatever window it is in.
template <class T = QWidget>
T* child(const QWidget* parent, const char* name) {
  return parent->findChild<T*>(QString::fromLatin1(name));
}

// Every widget that takes the focus can be named by a screen reader.
inline QStringList unnamedFocusable(const QWidget* root) {
  QStringList out;
  for (const QWidget* each : root->findChildren<QWidget*>()) {
    if (!(each->focusPolicy() & Qt::TabFocus) || !each->isVisibleTo(root)) continue;
    if (each->objectName() == QStringLiteral("qt_spinbox_lineedit")) continue;  // its spin box has the name
    if (each->inherits("QTabBar") || each->inherits("QDockWidget") || each->inherits("QScrollArea") || each->inherits("QHeaderView"))
      continue;
    QAccessibleInterface* spoken = QAccessible::queryAccessibleInterface(const_cast<QWidget*>(each));
    if (spoken && spoken->text(QAccessible::Name).isEmpty())
      out << QStringLiteral("%1 %2").arg(QString::fromLatin1(each->metaObject()->className()), each->objectName());
  }
  return out;
}

}  // namespace winnow::testing

#define WINNOW_TEST_MAIN(Class)                                          \
  int main(int argc, char** argv) {                                      \
    QApplication application(argc, argv);                                \
    QApplication::setApplicationName(QStringLiteral("winnow"));          \
    QApplication::setOrganizationName(QStringLiteral("winnow"));         \
    winnow::ThemeManager themes;                                         \
    themes.setMode(winnow::ThemeManager::Mode::light);                   \
    themes.applyTo(&application);                                        \
    Class test;                                                          \
    return QTest::qExec(&test, argc, argv);                              \
  }
