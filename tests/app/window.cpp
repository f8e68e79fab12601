// SPDX-License-Identifier: GPL-3.0-or-later
// The window's own manners: commands, dropped files, layouts, themes, dialogs, shortcuts.
#include <QDragEnterEvent>
#include <QLineEdit>
#include <QMainWindow>
#include <QMenu>
#include <QMenuBar>
#include <QMimeData>
#include <QScrollArea>
#include <QSet>
#include <QUrl>

#include "app/gui/command_palette.h"
#include "tests/support/stage.h"

using namespace winnow;
using namespace winnow::testing;

namespace {

// Enabled controls that Tab does not come to.
QStringList unreached(QWidget* window) {
  QSet<const QWidget*> reached;
  if (!QApplication::focusWidget() || !window->isAncestorOf(QApplication::focusWidget())) QTest::keyClick(window, Qt::Key_Tab);
  for (QWidget* now = QApplication::focusWidget(); now && !reached.contains(now); now = QApplication::focusWidget()) {
    reached.insert(now);
    QTest::keyClick(now, Qt::Key_Tab);
  }
  QStringList missed;
  for (const QWidget* each : window->findChildren<QWidget*>()) {
    if (each->window() != window || !each->isVisible() || !each->isEnabled() || (each->focusPolicy() & Qt::TabFocus) == 0) continue;
    if (reached.contains(each) || reached.contains(each->focusProxy()) || each->objectName() == QStringLiteral("qt_spinbox_lineedit")) continue;
    missed << QStringLiteral("%1/%2").arg(QString::fromLatin1(each->metaObject()->className()), each->objectName());
  }
  return missed;
}

}  // namespace

class WindowTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void cleanup() { closeDialogs(); }

  void paletteFindsActions() {
    QVERIFY(paletteScore(QStringLiteral("Generate"), QStringLiteral("gen")) >= 0);
    QVERIFY(paletteScore(QStringLiteral("Generate"), QStringLiteral("xyz")) < 0);
    QVERIFY(paletteScore(QStringLiteral("Dark theme"), QStringLiteral("dark")) <
                paletteScore(QStringLiteral("Reload a kernel"), QStringLiteral("dark")) ||
            paletteScore(QStringLiteral("Reload a kernel"), QStringLiteral("dark")) < 0);
    Stage stage;
    stage.action("help.palette")->trigger();
    auto* palette = stage.window->findChild<CommandPalette*>();
    QVERIFY(palette);
    auto* edit = child<QLineEdit>(palette, "palette.edit");
    QTest::keyClicks(edit, QStringLiteral("dark theme"));
    QTest::keyClick(edit, Qt::Key_Return);
    QTRY_VERIFY(stage.themes.theme().dark);
  }

  void droppedFilesAreOpened() {
    QTemporaryDir folder;
    QFile text(folder.filePath(QStringLiteral("prompt.txt")));
    QVERIFY(text.open(QIODevice::WriteOnly));
    text.write("A dropped prompt");
    text.close();
    QFile other(folder.filePath(QStringLiteral("picture.bmp")));
    QVERIFY(other.open(QIODevice::WriteOnly));
    other.close();
    Stage stage;
    const auto drop = [&](const QString& path) {
      QMimeData data;
      data.setUrls({QUrl::fromLocalFile(path)});
      QDragEnterEvent enter(QPoint(200, 200), Qt::CopyAction, &data, Qt::LeftButton, Qt::NoModifier);
      enter.ignore();
      QApplication::sendEvent(stage.window.get(), &enter);
      if (!enter.isAccepted()) return false;
      QDropEvent event(QPointF(200, 200), Qt::CopyAction, &data, Qt::LeftButton, Qt::NoModifier);
      QApplication::sendEvent(stage.window.get(), &event);
      return true;
    };
    QVERIFY(!drop(other.fileName()));
    QVERIFY(drop(text.fileName()));
    QCOMPARE(stage.window->prompt()->prompt(), QStringLiteral("A dropped prompt"));
  }

  void layoutSurvivesGarbage_data() {
    QTest::addColumn<QByteArray>("state");
    QTest::newRow("nothing") << QByteArray();
    QTest::newRow("garbage") << QByteArray("no layout at all");
    QTest::newRow("another version") << QMainWindow().saveState(99);
  }
  void layoutSurvivesGarbage() {
    QFETCH(QByteArray, state);
    Settings().setWindow({}, state);
    {
      Stage stage;
      stage.window->showView(MainWindow::runsTab);   // leaves the start page
      QVERIFY(child<QWidget>(stage.window.get(), "dock.knobs")->isVisible());
      QVERIFY(child<QWidget>(stage.window.get(), "prompt")->isVisible());
      stage.action("view.dock.knobs")->trigger();
      QVERIFY(!child<QWidget>(stage.window.get(), "dock.knobs")->isVisible());
      stage.window->close();
    }
    Stage again;   // what was hidden stays hidden, until the layout is reset
    again.window->showView(MainWindow::runsTab);
    QVERIFY(!child<QWidget>(again.window.get(), "dock.knobs")->isVisible());
    again.action("view.reset")->trigger();
    QVERIFY(child<QWidget>(again.window.get(), "dock.knobs")->isVisible());
    Settings().setWindow({}, {});
  }

  void themesAndTextSizeSwitchLive() {
    Stage stage;
    stage.action("view.theme.dark")->trigger();
    QVERIFY(stage.themes.theme().dark);
    stage.action("view.theme.light")->trigger();
    QVERIFY(!stage.themes.theme().dark);
    const double before = stage.themes.fontScale();
    stage.action("view.larger")->trigger();
    QVERIFY(stage.themes.fontScale() > before);
    stage.action("view.normalSize")->trigger();
    QCOMPARE(stage.themes.fontScale(), 1.0);
    QCOMPARE(Settings().theme(), ThemeManager::Mode::light);
  }

  void dialogsOpenAndClose() {
    Stage stage;
    for (const char* action : {"help.about", "help.shortcuts"}) {
      stage.action(action)->trigger();
      auto* dialog = stage.window->findChild<QDialog*>(QString::fromLatin1(action).section(QLatin1Char('.'), 1));
      QVERIFY2(dialog && dialog->isVisible(), action);
      QTest::keyClick(dialog, Qt::Key_Escape);
      QTRY_VERIFY(!stage.window->findChild<QDialog*>(QString::fromLatin1(action).section(QLatin1Char('.'), 1)));
    }
  }

  // Tab goes through every control and comes back: none is left out, none is a trap.
  void tabReachesEverything() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    for (const char* view : {"view.live", "view.attribution", "view.runs", "view.compare"}) {
      stage.action(view)->trigger();
      QCOMPARE(unreached(stage.window.get()).join(QLatin1Char(' ')), QString());
    }
    for (const char* action : {"run.evaluate", "run.bench", "run.plan", "help.shortcuts", "help.palette"}) {
      stage.action(action)->trigger();
      QTRY_VERIFY2(QApplication::activeWindow() && QApplication::activeWindow() != stage.window.get(), action);
      QWidget* dialog = QApplication::activeWindow();
      QVERIFY2(unreached(dialog).isEmpty(), qPrintable(QString::fromLatin1(action) + QStringLiteral(": ") + unreached(dialog).join(QLatin1Char(' '))));
      QCOMPARE(unnamedFocusable(dialog).join(QLatin1Char(' ')), QString());
      dialog->close();
      stage.window->activateWindow();
      QTRY_COMPARE(QApplication::activeWindow(), static_cast<QWidget*>(stage.window.get()));
    }
  }

  // Knobs are passed from top to bottom.
  void tabFollowsTheEye() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    std::vector<int> heights;
    QWidget* at = child<QWidget>(stage.window.get(), "knobs.search");
    at->setFocus();
    for (int i = 0; i < 60; ++i) {
      QTest::keyClick(QApplication::focusWidget(), Qt::Key_Tab);
      QWidget* now = QApplication::focusWidget();
      auto* area = stage.window->knobs()->findChild<QScrollArea*>();
      if (!now || !area->widget()->isAncestorOf(now)) {
        if (heights.empty()) continue;
        break;  // the last knob is behind
      }
      heights.push_back(now->mapTo(area->widget(), QPoint(0, now->height() / 2)).y());
    }
    QVERIFY(heights.size() > 15);
    for (size_t i = 1; i < heights.size(); ++i)  // the controls of a row are nearly level
      QVERIFY2(heights[i] > heights[i - 1] - 40, qPrintable(QStringLiteral("from %1 to %2").arg(heights[i - 1]).arg(heights[i])));
  }

  void everyActionIsInAMenu() {
    Stage stage;
    QSet<const QAction*> inMenus;
    for (const QMenu* menu : stage.window->menuBar()->findChildren<QMenu*>())
      for (const QAction* action : menu->actions()) inMenus.insert(action);
    for (const QAction* action : stage.window->actions()->all()) {
      QVERIFY2(inMenus.contains(action), qPrintable(action->objectName()));
      QVERIFY(!action->text().isEmpty());
    }
  }

  void shortcutsAreUnambiguous() {
    Stage stage;
    QHash<QString, QString> owners;
    for (const QAction* action : stage.window->actions()->all()) {
      if (action->shortcut().isEmpty()) continue;
      const QString keys = action->shortcut().toString();
      QVERIFY2(!owners.contains(keys),
               qPrintable(keys + QStringLiteral(": ") + owners.value(keys) + QStringLiteral(" and ") + action->objectName()));
      owners.insert(keys, action->objectName());
    }
    for (const char* keys :
         {"F5", "Shift+F5", "Ctrl+K", "Ctrl+O", "Ctrl+Z", "Ctrl+Shift+Z", "Ctrl+Shift+B", "Ctrl+1", "Ctrl+4", "Ctrl+E", "Ctrl+F"})
      QVERIFY2(owners.contains(QString::fromLatin1(keys)), keys);
  }
};

WINNOW_TEST_MAIN(WindowTest)
#include "window.moc"
