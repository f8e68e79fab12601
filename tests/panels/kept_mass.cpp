// SPDX-License-Identifier: GPL-3.0-or-later
// The map of what a cache keeps of the attention, on figures made from a formula.
#include <QtTest>

#include "experiments/format.h"
#include "panels/cache/kept_mass_map.h"
#include "panels/theme/theme_manager.h"
#include "tests/support/qt_main.h"

using namespace winnow;

namespace {

// Later heads keep less, later layers more; layer 1 has no attention.
KeptMass formulaKept(int layers, int heads) {
  KeptMass kept;
  kept.layers = layers;
  kept.heads = heads;
  kept.prompt = kept.queries = 64;
  for (int layer = 0; layer < layers; ++layer) {
    kept.attends.push_back(layer != 1);
    for (int head = 0; head < heads; ++head) {
      const double lost = 0.6 * (head + 1) / heads * (layers - layer) / layers;
      kept.of.push_back({1 - lost * lost, 0.25});
    }
  }
  return kept;
}

}  // namespace

class KeptMassTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void cellsSayWhatIsKept() {
    KeptMassMap map;
    map.resize(640, 360);
    map.clear(QStringLiteral("Nothing yet."));
    QCOMPARE(map.accessibleDescription(), QStringLiteral("Nothing yet."));
    QVERIFY(map.describe(0, 0).isEmpty());
    map.show();
    const KeptMass kept = formulaKept(6, 8);
    map.setKept(kept);
    QCOMPARE(map.accessibleDescription(), QStringLiteral("6 layers, 8 heads"));
    QSignalSpy chosen(&map, &KeptMassMap::cellChosen);
    QTest::mouseClick(map.viewport(), Qt::LeftButton, {}, map.cellRect(2, 3).center());
    QCOMPARE(chosen.last().at(0).toString(), map.describe(2, 3));
    QVERIFY(map.describe(2, 3).startsWith(QStringLiteral("Layer 2, head 3: ") + Format().percent(kept.at(2, 3).mass)));
    QTest::mouseClick(map.viewport(), Qt::LeftButton, {}, map.cellRect(4, -1).center());
    QCOMPARE(map.accessibleDescription(), map.describe(4, -1));
    QVERIFY(map.describe(4, -1).contains(Format().percent(kept.mean(4).mass)) && map.describe(4, -1).contains(QStringLiteral("head 7 keeps least")));
    QVERIFY(map.describe(1, 0).contains(QStringLiteral("no attention")));
    QVERIFY(map.describe(6, 0).isEmpty() && map.describe(0, 8).isEmpty());
    const int before = chosen.size();
    QTest::mouseClick(map.viewport(), Qt::LeftButton, {}, QPoint(20, 5));  // headings
    QCOMPARE(chosen.size(), before);
  }

  void theKeyboardReachesAll() {
    KeptMassMap map;
    map.resize(320, 240);
    map.show();
    map.setKept(formulaKept(40, 32));
    map.setFocus(Qt::TabFocusReason);
    QTRY_VERIFY(map.hasFocus());
    QCOMPARE(map.accessibleDescription(), map.describe(0, -1));
    QVERIFY(!map.viewport()->rect().contains(map.cellRect(39, 31)));
    for (int i = 0; i < 40; ++i) QTest::keyClick(&map, Qt::Key_Down);
    QTest::keyClick(&map, Qt::Key_End);
    QCOMPARE(map.accessibleDescription(), map.describe(39, 31));
    QVERIFY(map.viewport()->rect().contains(map.cellRect(39, 31)));
    QTest::keyClick(&map, Qt::Key_Home);
    QCOMPARE(map.accessibleDescription(), map.describe(39, -1));
    QTest::keyClick(&map, Qt::Key_PageUp);
    QVERIFY(map.accessibleDescription() != map.describe(39, -1));
  }

  void coloursAndBarsShowTheFigures() {
    KeptMassMap map;
    map.resize(700, 400);
    const KeptMass kept = formulaKept(6, 8);
    map.setKept(kept);
    const QImage image = map.grab().toImage();
    const QPoint origin = map.viewport()->mapTo(&map, QPoint(0, 0));
    QCOMPARE(image.pixel(map.cellRect(3, 5).topLeft() + origin + QPoint(2, 2)), KeptMassMap::colourOf(kept.at(3, 5).mass).rgb());
    const QRect bar = map.cellRect(0, -1);
    const auto at = [&](double share) { return image.pixelColor(origin + QPoint(bar.left() + static_cast<int>(bar.width() * share), bar.center().y())); };
    const Theme theme = Theme::builtIn(false);
    const double mean = kept.mean(0).mass;
    QCOMPARE(at(mean - 0.05), theme.accent);
    QCOMPARE(at(mean + 0.05), theme.sunken);
    QCOMPARE(at(0.25), theme.text);  // the mark of what is held
  }

  void pictures() {
    ThemeManager themes;
    themes.applyTo(qApp);
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark}) {
      themes.setMode(mode);
      const QString theme = mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light");
      for (const QSize size : {QSize(860, 480), QSize(420, 300)}) {
        KeptMassMap map;
        map.setTheme(themes.theme());
        map.resize(size);
        const QImage empty = map.grab().toImage();
        map.setKept(formulaKept(16, 32));
        const QPixmap many = map.grab();
        QVERIFY(many.toImage() != empty);
        QVERIFY(many.save(QStringLiteral("%1/kept_many_%2_%3.png").arg(winnow::testing::pictureFolder(), theme).arg(size.width())));
        map.setKept(formulaKept(6, 8));
        QVERIFY(map.grab().save(QStringLiteral("%1/kept_%2_%3.png").arg(winnow::testing::pictureFolder(), theme).arg(size.width())));
      }
    }
    themes.setMode(ThemeManager::Mode::light);
  }
};

WINNOW_TEST_MAIN(KeptMassTest)
#include "kept_mass.moc"
