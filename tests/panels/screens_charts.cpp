// SPDX-License-Identifier: GPL-3.0-or-later
// Pictures of the live view and of every chart, both themes, two sizes: asserted to be painted; kept where --pictures DIR says.
#include <QApplication>
#include <QDir>
#include <QtTest>
#include <cmath>
#include <random>

#include "panels/export/chart_export.h"
#include "panels/export/export_dialog.h"
#include "panels/live/live_view.h"
#include "panels/plot/chart_view.h"
#include "panels/plot/compare_view.h"
#include "tests/support/chart_session.h"

using namespace winnow;

namespace {

QString pictureFolder;

struct Stage {
  ThemeManager themes;
  ReplotClock clock;
  CursorLink cursor;
  PlotContext context() { return {&themes, &clock, &cursor, nullptr}; }
};

void settle(ReplotClock& clock) {
  QTest::qWait(150);
  for (int i = 0; i < 100 && clock.active(); ++i) QTest::qWait(10);
}

void keep(QWidget& widget, const QString& name) {
  const QImage image = widget.grab().toImage();
  QVERIFY(!image.isNull());
  if (!pictureFolder.isEmpty()) QVERIFY(image.save(pictureFolder + u'/' + name + QStringLiteral(".png")));
}

// A plausible generation: three knob changes, a few slow tokens, a cache that is evicted.
void play(LiveView& view, int count, int prompt = 96) {
  std::mt19937 random(7);
  std::lognormal_distribution<double> noise(0, 0.05);
  std::exponential_distribution<double> surprise(0.7);
  view.beginGeneration({});
  view.setQuality({0, 0, 6.61, 0.05, 0.0, 1.0, 20, QStringLiteral("llama c=256"), false});
  std::vector<TokenPoint> points;
  for (int i = 0; i < prompt + count; ++i) {
    TokenPoint p;
    p.index = i;
    p.prompt = i < prompt;
    p.ms = p.prompt ? (i == 0 ? 310.0 : 0) : 0;
    const int done = i - prompt;
    p.epoch = done < count / 4 ? 0 : done < count / 2 ? 1 : done < count * 3 / 4 ? 2 : 3;
    const double base[] = {24.8, 20.3, 18.9, 13.2};
    if (!p.prompt) p.ms = base[p.epoch] * noise(random) + done * 0.002 + (random() % 97 == 0 ? 9 : 0);
    p.nll = p.prompt ? -1 : std::min(7.0, surprise(random));
    p.kvLive = p.epoch < 2 ? i + 1 : std::min(i + 1, 256);
    p.kvEvicted = i + 1 - p.kvLive;
    const double weights[] = {2.2e9, 2.2e9, 2.2e9, 0.61e9};
    p.memory[static_cast<size_t>(MemoryTag::weightsMapped)] = p.epoch == 3 ? 0 : static_cast<int64_t>(weights[p.epoch]);
    p.memory[static_cast<size_t>(MemoryTag::weights)] = p.epoch == 3 ? static_cast<int64_t>(weights[3]) : 0;
    p.memory[static_cast<size_t>(MemoryTag::kv)] = p.kvLive * (p.epoch >= 1 ? 300000 : 600000);
    p.memory[static_cast<size_t>(MemoryTag::activations)] = 96 << 20;
    points.push_back(p);
  }
  view.addTokens(points);
  const auto at = [&](int quarter) { return static_cast<qint64>(prompt + count * quarter / 4); };
  view.addEpoch({1, at(1), QStringLiteral("kv.k_bits 16 → 8"), QStringLiteral("user"), false, {}});
  view.setQuality({1, at(1), 6.63, 0.05, 0.0031, 0.991, 20, QStringLiteral("llama c=256"), false});
  view.addEpoch({2, at(2), QStringLiteral("kv.budget 1 → 256"), QStringLiteral("user"), false, {}});
  view.setQuality({2, at(2), 6.74, 0.05, 0.018, 0.968, 20, QStringLiteral("llama c=256"), false});
  view.addEpoch({3, at(3), QStringLiteral("weights.bits 16 → 4"), QStringLiteral("user"), false, {}});
  view.setQuality({3, at(3), 6.92, 0.06, 0.051, 0.941, 12, QStringLiteral("llama c=256"), true});
}

}  // namespace

class ScreensCharts : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void liveView_data() {
    QTest::addColumn<bool>("dark");
    QTest::addColumn<QSize>("size");
    QTest::newRow("light-1280") << false << QSize(1280, 800);
    QTest::newRow("dark-1280") << true << QSize(1280, 800);
    QTest::newRow("light-900") << false << QSize(900, 600);
    QTest::newRow("dark-900") << true << QSize(900, 600);
    QTest::newRow("light-620") << false << QSize(620, 560);
  }
  void liveView() {
    QFETCH(bool, dark);
    QFETCH(QSize, size);
    Stage stage;
    stage.themes.setMode(dark ? ThemeManager::Mode::dark : ThemeManager::Mode::light);
    stage.themes.applyTo(qApp);
    LiveView view(stage.context());
    view.resize(size);
    view.show();
    if (QWidget* focused = QApplication::focusWidget()) focused->clearFocus();
    settle(stage.clock);
    keep(view, QStringLiteral("live-empty-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
    play(view, 416);
    stage.cursor.setPosition(300);
    settle(stage.clock);
    keep(view, QStringLiteral("live-full-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
    play(view, 20000, 512);
    settle(stage.clock);
    keep(view, QStringLiteral("live-long-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
  }
  void compare_data() { liveView_data(); }
  void compare() {
    QFETCH(bool, dark);
    QFETCH(QSize, size);
    test::ChartSession session;
    session.fill();
    Stage stage;
    stage.themes.setMode(dark ? ThemeManager::Mode::dark : ThemeManager::Mode::light);
    stage.themes.applyTo(qApp);
    CompareView view(&stage.themes);
    view.resize(size);
    view.show();
    keep(view, QStringLiteral("compare-empty-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
    view.setSession(session.file);
    std::vector<storage::Id> runs = session.evaluations;
    runs.insert(runs.end(), session.benches.begin(), session.benches.end());
    view.setRuns(runs);
    QTest::qWait(50);
    keep(view, QStringLiteral("compare-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
    ExportDialog dialog(*view.chart(), &stage.themes, {});
    dialog.resize(size.boundedTo(QSize(960, 600)));
    dialog.show();
    QTest::qWait(200);
    keep(dialog, QStringLiteral("export-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
  }
  void charts_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<bool>("dark");
    for (const QString& name : chartNames())
      for (const bool dark : {false, true}) QTest::addRow("%s-%s", qPrintable(name), dark ? "dark" : "light") << name << dark;
  }
  void charts() {
    QFETCH(QString, name);
    QFETCH(bool, dark);
    test::ChartSession session;
    session.fill();
    std::vector<storage::Id> ids;
    if (name == QLatin1String("kv") || name == QLatin1String("memory")) ids = {session.generates[0]};
    if (name == QLatin1String("attribution-pareto")) session.addApproximation();
    const auto chart = buildChart(*session.file, name, ids);
    QVERIFY2(chart.ok(), chart.ok() ? "" : chart.error().message.c_str());
    Stage stage;
    stage.themes.setMode(dark ? ThemeManager::Mode::dark : ThemeManager::Mode::light);
    stage.themes.applyTo(qApp);
    ChartView view(&stage.themes);
    view.setChart(*chart);
    view.resize(900, view.heightForWidth(900));
    keep(view, QStringLiteral("chart-%1").arg(QString::fromLatin1(QTest::currentDataTag())));
    if (!dark && !pictureFolder.isEmpty())
      for (const QString& format : exportFormats()) {
        const auto done = exportChart(*chart, {}, pictureFolder + QStringLiteral("/chart-%1.%2").arg(name, format));
        QVERIFY2(done.ok(), done.ok() ? "" : done.error().message.c_str());
      }
  }
};

int main(int argc, char** argv) {
  QApplication application(argc, argv);
  QStringList arguments = application.arguments();
  if (const qsizetype at = arguments.indexOf(QStringLiteral("--pictures")); at > 0 && at + 1 < arguments.size()) {
    pictureFolder = arguments[at + 1];
    QDir().mkpath(pictureFolder);
    arguments.remove(at, 2);
  }
  ScreensCharts test;
  return QTest::qExec(&test, arguments);
}

#include "screens_charts.moc"
