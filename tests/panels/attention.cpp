// SPDX-License-Identifier: GPL-3.0-or-later
// The grid of heads and the map of one, on attention made from a formula.
#include <QtTest>

#include "experiments/format.h"
#include "panels/attention/attention_colours.h"
#include "panels/attention/attention_map.h"
#include "panels/attention/head_grid.h"
#include "panels/theme/theme_manager.h"
#include "tests/support/qt_main.h"

using namespace winnow;

namespace {

// Head h of a layer pays a share h / heads to the first token and the rest to the query's own; layer 1 has no attention.
AttentionMaps formulaMaps(int layers, int heads, int tokens, int perCell = 1) {
  AttentionMaps maps;
  maps.layers = layers;
  maps.heads = heads;
  maps.tokens = tokens;
  maps.perCell = perCell;
  for (int i = 0; i < tokens; ++i) maps.pieces.push_back(" w" + std::to_string(i));
  for (int layer = 0; layer < layers; ++layer)
    for (int head = 0; head < heads; ++head) {
      HeadAttention of;
      of.first = head / static_cast<double>(heads);
      of.own = 1 - of.first;
      if (layer != 1) {
        of.cells.resize(static_cast<size_t>(maps.cells() * maps.cells()));
        for (int q = 0; q < maps.cells(); ++q) {
          of.cells[static_cast<size_t>(q * maps.cells())] += static_cast<float>(of.first);
          of.cells[static_cast<size_t>(q * maps.cells() + q)] += static_cast<float>(of.own);
        }
      }
      maps.of.push_back(std::move(of));
    }
  return maps;
}

}  // namespace

class AttentionTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void headsAreChosenByPointerAndKeyboard() {
    HeadGrid grid;
    grid.resize(320, 300);
    grid.clear(QStringLiteral("Nothing yet."));
    QCOMPARE(grid.accessibleDescription(), QStringLiteral("Nothing yet."));
    QSignalSpy chosen(&grid, &HeadGrid::headChosen);
    grid.show();
    grid.setMaps(formulaMaps(4, 5, 20));
    QCOMPARE(chosen.size(), 1);
    QTest::mouseClick(grid.viewport(), Qt::LeftButton, {}, grid.headRect(2, 3).center());
    QCOMPARE(chosen.last(), (QVariantList{2, 3}));
    QTest::keyClick(&grid, Qt::Key_Up);
    QTest::keyClick(&grid, Qt::Key_Left);
    QCOMPARE(chosen.last(), (QVariantList{1, 2}));
    QVERIFY(grid.describe(1, 2).contains(QStringLiteral("no attention")));
    QVERIFY(grid.describe(2, 3).contains(Format().percent(0.6)));
    QTest::keyClick(&grid, Qt::Key_End);
    QTest::keyClick(&grid, Qt::Key_End);  // there already: not told again
    QCOMPARE(chosen.size(), 5);
    grid.setMaps(formulaMaps(4, 5, 30));  // the choice stays, and is told for the new maps
    QCOMPARE(chosen.last(), (QVariantList{1, 4}));
    grid.setMaps(formulaMaps(2, 2, 30));
    QCOMPARE(chosen.last(), (QVariantList{0, 0}));
  }

  void manyHeadsScroll() {
    HeadGrid grid;
    grid.resize(240, 200);
    grid.show();
    grid.setMaps(formulaMaps(40, 32, 8));
    QVERIFY(!grid.viewport()->rect().contains(grid.headRect(39, 31)));
    for (int i = 0; i < 40; ++i) QTest::keyClick(&grid, Qt::Key_Down);
    QTest::keyClick(&grid, Qt::Key_End);
    QVERIFY(grid.viewport()->rect().contains(grid.headRect(39, 31)));
  }

  void cellsSayWhoLooksWhere() {
    AttentionMap map;
    map.resize(460, 480);
    map.setMaps(formulaMaps(3, 4, 20));
    map.setHead(2, 1);
    QVERIFY(map.describe(7, 0).contains(QStringLiteral("7 “ w7”")) && map.describe(7, 0).contains(Format().percent(0.25)));
    QVERIFY(map.describe(7, 7).contains(Format().percent(0.75)));
    QVERIFY(map.describe(7, 8).isEmpty() && map.cellRect(7, 8).isNull() && map.describe(20, 0).isEmpty());
    map.show();
    QTest::mouseClick(&map, Qt::LeftButton, {}, map.cellRect(10, 4).center());
    QCOMPARE(map.accessibleDescription(), map.describe(10, 4));
    QTest::keyClick(&map, Qt::Key_Down);
    QTest::keyClick(&map, Qt::Key_End);
    QCOMPARE(map.accessibleDescription(), map.describe(11, 11));
    const QImage image = map.grab().toImage();
    QCOMPARE(image.pixel(map.cellRect(5, 0).center()), attentionColour(0.25).rgb());
    map.setHead(1, 0);
    QVERIFY(map.describe(3, 3).isEmpty());
    map.setMaps(formulaMaps(3, 4, 20, 4));
    map.setHead(0, 1);
    QVERIFY(map.describe(2, 0).contains(QStringLiteral("8 to 11")) && map.describe(2, 0).contains(QStringLiteral("0 to 3")));
  }

  void pictures() {
    ThemeManager themes;
    themes.applyTo(qApp);
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark}) {
      themes.setMode(mode);
      HeadGrid grid;
      AttentionMap map;
      grid.setTheme(themes.theme());
      map.setTheme(themes.theme());
      grid.resize(360, 420);
      map.resize(460, 480);
      const QImage empty = map.grab().toImage();
      grid.setMaps(formulaMaps(8, 6, 40));
      map.setMaps(formulaMaps(8, 6, 40));
      map.setHead(3, 2);
      QVERIFY(map.grab().toImage() != empty);
      const QString theme = mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light");
      QVERIFY(grid.grab().save(winnow::testing::pictureFolder() + QStringLiteral("/heads_%1.png").arg(theme)));
      QVERIFY(map.grab().save(winnow::testing::pictureFolder() + QStringLiteral("/attention_%1.png").arg(theme)));
    }
    themes.setMode(ThemeManager::Mode::light);
  }
};

WINNOW_TEST_MAIN(AttentionTest)
#include "attention.moc"
