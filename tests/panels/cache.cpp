// SPDX-License-Identifier: GPL-3.0-or-later
// The map of the cache on maps made by hand: what a cell says and how it looks, the moments before, and what is exported.
#include <QtTest>
#include <QComboBox>
#include <QLabel>
#include <QSlider>
#include <QToolButton>

#include "experiments/format.h"
#include "panels/cache/cache_files.h"
#include "panels/cache/cache_view.h"
#include "panels/cache/occupancy_map.h"
#include "panels/theme/theme_manager.h"
#include "tests/support/qt_main.h"

using namespace winnow;

namespace {

// A sink and a window of the newest third, the oldest of it quantized; the last layer reads the keys of the one before it. Head 1 keeps
// twice the window.
CacheMap sinkAndWindow(int64_t fed, int layers, int perColumn) {
  CacheMap map;
  map.position = fed;
  map.perColumn = perColumn;
  for (int layer = 0; layer < layers; ++layer)
    for (int head = 0; head < 2; ++head) {
      const bool follower = layer == layers - 1 && layers > 1;
      CacheMapRow row{layer, head, follower ? layer - 1 : layer, 0, {}, {}, {}};
      const auto columns = static_cast<size_t>(map.columns());
      row.held.resize(columns);
      row.keyBits.resize(columns);
      row.valueBits.resize(columns);
      const int64_t from = std::max<int64_t>(0, fed - (head + 1) * fed / 3);
      for (int64_t p = 0; p < fed; ++p) {
        if (p >= 4 && p < from) continue;
        const auto c = static_cast<size_t>(p / perColumn);
        ++row.held[c];
        ++row.kept;
        const uint8_t bits = p < fed - fed / 8 ? 4 : 16;
        row.keyBits[c] = follower ? 0 : bits;
        row.valueBits[c] = bits == 4 ? 2 : bits;
      }
      map.rows.push_back(row);
    }
  map.stats.allocatedBytes = 4096;
  map.stats.liveBytes = 3000;
  return map;
}

}  // namespace

class CacheTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void linesAreMeansOverHeads() {
    const CacheMap map = sinkAndWindow(96, 3, 1);
    const auto heads = occupancyLines(map, true), layers = occupancyLines(map, false);
    QCOMPARE(heads.size(), size_t{6});
    QCOMPARE(layers.size(), size_t{3});
    QCOMPARE(heads[0].held, 36.0);
    QCOMPARE(heads[1].held, 68.0);
    QCOMPARE(layers[0].held, 52.0);
    QCOMPARE(layers[0].share[50], 0.5f);          // head 1 alone
    QCOMPARE(heads[1].bits[50], 3.0f);            // keys of 4, values of 2 bits
    QCOMPARE(layers[0].bits[50], 1.5f);
    QCOMPARE(layers[2].bits[95], 16.0f);          // values alone, all of them
    QCOMPARE(layers[0].bits[20], 0.0f);
    QVERIFY(layers[2].shared() && !layers[1].shared());
  }

  void cellsSayWhatIsThere() {
    OccupancyMap view;
    view.resize(700, 360);
    view.clear(QStringLiteral("Nothing yet."));
    QCOMPARE(view.accessibleDescription(), QStringLiteral("Nothing yet."));
    view.setMap(sinkAndWindow(96, 3, 1), false);
    QVERIFY(view.describe(0, 20).contains(QStringLiteral("evicted")));
    QVERIFY(view.describe(0, 90).contains(QStringLiteral("keys of 16 bits")));
    QVERIFY(view.describe(0, 50).contains(QStringLiteral("values of 2")) && view.describe(0, 50).contains(Format().percent(0.5)));
    QVERIFY(view.describe(2, 90).contains(QStringLiteral("keys of layer 1")));
    CacheMap map = sinkAndWindow(96, 3, 1);
    for (CacheMapRow& row : map.rows)
      if (row.layer == 2) row.borrowed = true, row.keyBits = row.valueBits;  // it has nothing of its own
    view.setMap(map, false);
    QVERIFY(view.describe(2, 90).contains(QStringLiteral("shared with layer 1")) && view.describe(2, 90).contains(QStringLiteral("keys of 16 bits")));
    QCOMPARE(occupancyLines(map, false)[2].bits[95], 16.0f);
    QVERIFY(view.describe(3, 0).isEmpty() && view.describe(0, 96).isEmpty());
    view.setMap(sinkAndWindow(96, 3, 8), true);
    QVERIFY(view.describe(0, 0).contains(QStringLiteral("positions 0 to 7")) && view.describe(0, 0).contains(Format().percent(0.5)));
  }

  void colourTellsTheBits() {
    ThemeManager themes;
    OccupancyMap view;
    view.setTheme(themes.theme());
    view.resize(700, 360);
    view.setMap(sinkAndWindow(96, 3, 1), true);
    view.show();
    const QImage image = view.viewport()->grab().toImage();
    const auto at = [&](int line, int column) { return image.pixel(view.cellRect(line, column).center()); };
    QCOMPARE(at(0, 20), view.colourOf(0).rgb());
    QCOMPARE(at(0, 90), view.colourOf(16).rgb());
    QCOMPARE(at(1, 50), view.colourOf(3).rgb());
    QVERIFY(view.colourOf(0) != view.colourOf(2) && view.colourOf(2) != view.colourOf(16));
  }

  void readByKeyboard() {
    OccupancyMap view;
    view.resize(700, 360);
    view.setMap(sinkAndWindow(96, 3, 1), false);
    view.show();
    QTest::mouseClick(view.viewport(), Qt::LeftButton, {}, view.cellRect(1, 50).center());
    QCOMPARE(view.accessibleDescription(), view.describe(1, 50));
    QTest::keyClick(&view, Qt::Key_Right);
    QCOMPARE(view.accessibleDescription(), view.describe(1, 51));
    QTest::keyClick(&view, Qt::Key_Down);
    QTest::keyClick(&view, Qt::Key_Down);
    QCOMPARE(view.accessibleDescription(), view.describe(2, 51));
    QTest::keyClick(&view, Qt::Key_End);
    QCOMPARE(view.accessibleDescription(), view.describe(2, 95));
    view.setMap(sinkAndWindow(192, 3, 2), false);  // the same position in wider columns
    QCOMPARE(view.accessibleDescription(), view.describe(2, 47));
  }

  void theSliderGoesBack() {
    CacheView view;
    auto* time = view.findChild<QSlider*>(QStringLiteral("cache.time"));
    auto* moment = view.findChild<QLabel*>(QStringLiteral("cache.moment"));
    auto* newest = view.findChild<QToolButton*>(QStringLiteral("cache.newest"));
    QVERIFY(!time->isEnabled());
    view.setModel(QStringLiteral("m"));
    for (int fed = 32; fed <= 320; fed += 32) view.add(sinkAndWindow(fed, 3, 1));
    QCOMPARE(time->maximum(), 9);
    QVERIFY(moment->text().contains(QStringLiteral("320")) && !newest->isEnabled());
    time->setValue(1);
    QVERIFY(moment->text().contains(QStringLiteral("64")) && newest->isEnabled());
    view.add(sinkAndWindow(352, 3, 1));  // somebody looks at an earlier moment: that stays
    QVERIFY(moment->text().contains(QStringLiteral("64")));
    newest->click();
    QVERIFY(moment->text().contains(QStringLiteral("352")));
    view.add(sinkAndWindow(384, 3, 1));
    QVERIFY(moment->text().contains(QStringLiteral("384")));
    view.findChild<QToolButton*>(QStringLiteral("cache.play"))->click();
    QTRY_COMPARE(time->value(), time->maximum());
    view.add(sinkAndWindow(100, 3, 1));  // another text
    QCOMPARE(time->maximum(), 3);
    view.begin();
    QVERIFY(!time->isEnabled() && moment->text().isEmpty());
  }

  void aLongHistoryIsThinned() {
    CacheHistory history;
    CacheMap map;
    const int last = 3 * static_cast<int>(CacheHistory::kMost) + 1;
    for (map.position = 1; map.position <= last; ++map.position) history.add(map);
    QVERIFY(history.size() <= static_cast<int>(CacheHistory::kMost));
    QCOMPARE(history.at(history.size() - 1).position, int64_t{last});
    QCOMPARE(history.at(0).position, int64_t{1});
    for (int i = 1; i < history.size(); ++i) QVERIFY(history.at(i - 1).position < history.at(i).position);
  }

  void aHistoryOfLargeMapsIsThinnedSooner() {
    CacheHistory history;
    CacheMap map;
    map.rows.resize(512);  // columns are counted by the position, so that the rows may stay empty here
    for (map.position = 1000; map.position < 1100; ++map.position) history.add(map);  // 3 MB each
    QVERIFY2(history.size() > 10 && history.size() <= 33, qPrintable(QString::number(history.size())));
    QCOMPARE(history.at(history.size() - 1).position, int64_t{1099});
  }

  void exported() {
    const CacheMap map = sinkAndWindow(96, 3, 8);
    const Chart chart = cacheChart(map, true, QStringLiteral("m"), QStringLiteral("kv.budget=0.5"));
    QCOMPARE(chart.panels[0].cells.size(), size_t{6});
    QCOMPARE(chart.panels[0].x.categories.size(), 12);
    QCOMPARE(chart.panels[0].y.categories.value(5), QStringLiteral("2.1"));
    const QList<QByteArray> lines = cacheCsv(map).split('\n');
    QVERIFY(lines[1].startsWith("0,0,0,0,8,4,4,2"));
    int64_t held = 0;
    for (const CacheMapRow& row : map.rows) held += row.kept;
    for (const QByteArray& line : lines.mid(1))
      if (!line.isEmpty()) held -= line.split(',')[5].toLongLong();
    QCOMPARE(held, int64_t{0});
  }

  void pictures() {
    ThemeManager themes;
    themes.applyTo(qApp);
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark})
      for (const int layers : {10, 80}) {
        themes.setMode(mode);
        CacheView view;
        view.setTheme(themes.theme());
        view.resize(layers == 10 ? QSize(900, 460) : QSize(560, 320));
        view.setModel(QStringLiteral("m"));
        for (int fed = 300; fed <= 700; fed += 100) view.add(sinkAndWindow(fed, layers, 2));
        const QString theme = mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light");
        const QImage byLayer = view.grab().toImage();
        view.findChild<QComboBox*>(QStringLiteral("cache.rows"))->setCurrentIndex(1);
        QVERIFY(view.grab().toImage() != byLayer);
        QVERIFY(byLayer.save(winnow::testing::pictureFolder() + QStringLiteral("/cache_%1_%2.png").arg(layers).arg(theme)));
        QVERIFY(view.grab().save(winnow::testing::pictureFolder() + QStringLiteral("/cache_heads_%1_%2.png").arg(layers).arg(theme)));
      }
    themes.setMode(ThemeManager::Mode::light);
  }
};

WINNOW_TEST_MAIN(CacheTest)
#include "cache.moc"
