// SPDX-License-Identifier: GPL-3.0-or-later
// The map of layers that attend alike, on values made from a formula: what it says, how it is read by keyboard, and how it looks.
#include <QtTest>
#include <cmath>

#include "panels/sharing/likeness_map.h"
#include "panels/theme/theme_manager.h"
#include "tests/support/qt_main.h"

using namespace winnow;

namespace {

SimilarityMap formulaMap(int layers) {
  SimilarityMap map;
  map.layers = layers;
  map.tokens = 1000;
  for (int of = 0; of < static_cast<int>(SimilarityOf::count); ++of)
    for (int a = 0; a < layers; ++a)
      for (int b = 0; b < layers; ++b) map.values[of].push_back(std::exp(-0.05 * (of + 1) * std::abs(a - b)));
  return map;
}

}  // namespace

class SharingTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void saysWhatIsThere() {
    LikenessMap view;
    view.resize(520, 460);
    view.clear(QStringLiteral("Nothing yet."));
    QCOMPARE(view.accessibleDescription(), QStringLiteral("Nothing yet."));
    QVERIFY(view.cellRect(1, 0).isNull());
    view.setMap(formulaMap(12), SimilarityOf::rows);
    QVERIFY(view.describe(5, 4).contains(QStringLiteral("0.9512")));
    view.setMap(formulaMap(12), SimilarityOf::noSink);
    QVERIFY(view.describe(5, 4).contains(QStringLiteral("0.9048")));
    QVERIFY(!view.cellRect(5, 4).isNull() && view.cellRect(4, 5).isNull());
  }

  void readByKeyboard() {
    LikenessMap view;
    view.resize(520, 460);
    view.setMap(formulaMap(12), SimilarityOf::rows);
    view.show();
    QTest::mouseClick(&view, Qt::LeftButton, {}, view.cellRect(6, 2).center());
    QCOMPARE(view.accessibleDescription(), view.describe(6, 2));
    QTest::keyClick(&view, Qt::Key_Right);
    QCOMPARE(view.accessibleDescription(), view.describe(6, 3));
    QTest::keyClick(&view, Qt::Key_Down);
    QCOMPARE(view.accessibleDescription(), view.describe(7, 3));
    QTest::keyClick(&view, Qt::Key_End);
    QCOMPARE(view.accessibleDescription(), view.describe(7, 7));
    for (int i = 0; i < 12; ++i) QTest::keyClick(&view, Qt::Key_Up);
    QCOMPARE(view.accessibleDescription(), view.describe(0, 0));
  }

  void pictures() {
    ThemeManager themes;
    themes.applyTo(qApp);
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark})
      for (const int layers : {10, 80}) {
        themes.setMode(mode);
        LikenessMap view;
        view.setTheme(themes.theme());
        view.resize(520, 460);
        view.setMap(formulaMap(layers), SimilarityOf::rows);
        const QImage plain = view.grab().toImage();
        view.setSpans({{2, 4}, {6, 7}, {90, 91}});
        const QImage image = view.grab().toImage();
        QVERIFY(image != plain);
        view.setSpans({{90, 91}});  // not of this model
        QCOMPARE(view.grab().toImage(), plain);
        const QString theme = mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light");
        QVERIFY(image.save(winnow::testing::pictureFolder() + QStringLiteral("/likeness_%1_%2.png").arg(layers).arg(theme)));
      }
    themes.setMode(ThemeManager::Mode::light);
  }
};

WINNOW_TEST_MAIN(SharingTest)
#include "sharing.moc"
