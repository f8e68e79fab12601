// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/live/live_view.h"

#include <QApplication>
#include <QElapsedTimer>
#include <QLabel>
#include <QSignalSpy>
#include <QtTest>

using namespace winnow;

namespace {

struct Stage {
  ThemeManager themes;
  ReplotClock clock;
  CursorLink cursor;
  LiveView view{{&themes, &clock, &cursor, nullptr}};
  Stage() { themes.applyTo(qApp); }

  PlotWidget* plot(const char* id) const {
    for (PlotWidget* p : view.plots())
      if (p->objectName() == QStringLiteral("plot-") + QLatin1String(id)) return p;
    return nullptr;
  }
  const StatTile* tile(const char* name) const {
    for (const StatTile* t : view.findChildren<StatTile*>())
      if (t->accessibleName() == QLatin1String(name)) return t;
    return nullptr;
  }
  QString plain(const QString& s) const { return QString(s).replace(QChar(0x202F), u' '); }
};

TokenPoint prompt(qint64 index, double ms) {
  TokenPoint p;
  p.index = index;
  p.prompt = true;
  p.ms = ms;
  p.kvLive = index + 1;
  return p;
}
TokenPoint decoded(qint64 index, double ms, int epoch = 0) {
  TokenPoint p;
  p.index = index;
  p.ms = ms;
  p.nll = 1.5;
  p.epoch = epoch;
  p.kvLive = index + 1;
  p.memory[static_cast<size_t>(MemoryTag::weightsMapped)] = 512 << 20;
  p.memory[static_cast<size_t>(MemoryTag::kv)] = 1 << 20;
  return p;
}
JobState generating(bool running) {
  JobState s;
  s.kind = JobState::Kind::generate;
  s.running = running;
  return s;
}

}  // namespace

class LiveTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void emptyStateIsOneSentenceEach() {
    Stage stage;
    stage.view.resize(900, 600);
    stage.view.show();
    QTest::qWait(60);
    QCOMPARE(stage.tile("Time per token")->value(), QStringLiteral("–"));
    QStringList sentences;
    for (const QLabel* l : stage.view.findChildren<QLabel*>()) sentences << l->text();
    QVERIFY(sentences.contains(QStringLiteral("Press F5 to generate; latency appears here.")));
  }

  void prefillIsNeverMixedWithDecode() {
    Stage stage;
    stage.view.beginGeneration({});
    std::vector<TokenPoint> points{prompt(0, 300)};
    for (int i = 1; i < 100; ++i) points.push_back(prompt(i, 0));
    for (int i = 100; i < 200; ++i) points.push_back(decoded(i, 20 + i % 3));
    stage.view.addTokens(points);
    const Chart latency = stage.plot("latency")->chart();
    QCOMPARE(latency.panels[0].series[0].x.size(), size_t{100});
    QCOMPARE(latency.panels[0].series[0].x.front(), 100.0);
    for (const double ms : latency.panels[0].series[0].y) QVERIFY(ms >= 20 && ms <= 22);
    QTRY_COMPARE(stage.plain(stage.tile("Time per token")->value()), QStringLiteral("21.0 ms"));
    QVERIFY(stage.plain(stage.tile("Throughput")->detail()).contains(QStringLiteral("prefill 333 tok/s")));
    QVERIFY(stage.plain(stage.tile("Throughput")->value()).startsWith(QStringLiteral("47.")));
    QVERIFY(stage.plain(stage.tile("Time per token")->detail()).contains(QStringLiteral("n 100")));
    QCOMPARE(stage.plain(stage.tile("Memory")->value()), QStringLiteral("513 MiB"));
  }

  void figuresAreThoseOfThePresentEpoch() {
    Stage stage;
    stage.view.beginGeneration({});
    std::vector<TokenPoint> points;
    for (int i = 0; i < 50; ++i) points.push_back(decoded(i, 20));
    for (int i = 50; i < 80; ++i) points.push_back(decoded(i, 10, 1));
    stage.view.addTokens(points);
    stage.view.addEpoch({1, 50, QStringLiteral("weights.bits 16 → 4"), QStringLiteral("user"), false, {}});
    QTRY_COMPARE(stage.plain(stage.tile("Time per token")->value()), QStringLiteral("10.0 ms"));
    QVERIFY(stage.tile("Time per token")->detail().contains(QStringLiteral("n 30")));
    for (const PlotWidget* p : stage.view.plots()) {
      QCOMPARE(p->chart().panels[0].markers.size(), size_t{1});
      QCOMPARE(p->chart().panels[0].markers[0].x, 50.0);
    }
  }

  void qualityIsPerplexityOfTheProbeAndConfidenceIsNot() {
    Stage stage;
    stage.view.beginGeneration({});
    std::vector<TokenPoint> points;
    for (int i = 0; i < 10; ++i) points.push_back(decoded(i, 20));
    stage.view.addTokens(points);
    QVERIFY(stage.plot("perplexity")->chart().panels[0].series[0].x.empty());
    QCOMPARE(stage.plot("confidence")->chart().panels[0].series[0].y, std::vector<double>(10, 1.5));
    stage.view.setQuality({0, 0, 6.61, 0.05, 0, 1, 3, QStringLiteral("llama c=256"), true});
    stage.view.setQuality({0, 0, 6.62, 0.04, 0, 1, 20, QStringLiteral("llama c=256"), false});
    const auto series = stage.plot("perplexity")->chart().panels[0].series[0];
    QCOMPARE(series.y, std::vector<double>{6.62});  // the running figure gives way to the final one
    QVERIFY(std::abs(series.high[0] - (6.62 + 1.96 * 0.04)) < 1e-9);
    QCOMPARE(stage.tile("Perplexity")->value(), QStringLiteral("6.62"));
    stage.view.setQuality({1, 8, 7.9, 0.04, 0.2, 0.8, 20, QStringLiteral("llama c=256"), false});
    QCOMPARE(stage.plot("perplexity")->chart().panels[0].series[0].x, (std::vector<double>{0, 8}));
    QVERIFY(stage.plain(stage.tile("Perplexity")->accessibleDescription()).contains(QStringLiteral("+19 %")));
    QVERIFY(stage.plain(stage.tile("KL divergence")->detail()).contains(QStringLiteral("80.0 %")));
    stage.view.setQuality({2, 9, 0, 0, 0, 1, 0, {}, true});  // begun, nothing measured yet: no figure is shown
    QCOMPARE(stage.tile("Perplexity")->value(), QStringLiteral("–"));
    QCOMPARE(stage.plot("perplexity")->chart().panels[0].series[0].x.size(), size_t{2});
  }

  void aNewGenerationStartsEmpty() {
    Stage stage;
    stage.view.addTokens({decoded(0, 20), decoded(1, 20)});
    stage.view.beginGeneration({});
    QVERIFY(stage.plot("latency")->chart().panels[0].series[0].x.empty());
    stage.view.addTokens({decoded(0, 20)});
    stage.view.addTokens({decoded(0, 30)});  // an index that falls back is another sequence
    QCOMPARE(stage.plot("latency")->chart().panels[0].series[0].y, std::vector<double>{30});
  }

  void aStallSaysWhatItWaitsFor() {
    Stage stage;
    stage.view.resize(900, 600);
    stage.view.show();
    stage.view.setJob(generating(true));
    stage.view.addTokens({decoded(182, 20), decoded(183, 20)});
    const auto waiting = [&] {
      for (const QLabel* l : stage.plot("latency")->findChildren<QLabel*>())
        if (l->text().startsWith(QStringLiteral("waiting for token 184"))) return true;
      return false;
    };
    QVERIFY(!waiting());
    QTRY_VERIFY_WITH_TIMEOUT(waiting(), 3000);
    stage.view.addTokens({decoded(184, 20)});
    QTRY_VERIFY(!waiting());
    stage.view.setJob(generating(false));
    QTest::qWait(1300);
    QVERIFY(!waiting());
  }

  void hoveringTellsTheToken() {
    Stage stage;
    stage.view.resize(900, 700);
    stage.view.show();
    std::vector<TokenPoint> points;
    for (int i = 0; i < 300; ++i) points.push_back(decoded(i, 20));
    stage.view.addTokens(points);
    QTest::qWait(80);
    QSignalSpy hovered(&stage.cursor, &CursorLink::tokenHovered);
    QWidget* canvas = nullptr;
    for (QWidget* w : stage.plot("latency")->findChildren<QWidget*>())
      if (w->inherits("QCustomPlot")) canvas = w;
    QVERIFY(canvas);
    QTest::mouseMove(canvas, canvas->rect().center());
    QTRY_VERIFY(hovered.count() > 0);
    QVERIFY(hovered.last()[0].toLongLong() > 50);
  }

  // A feed at display rate with every plot on screen leaves most of a frame to others.
  void keepsUpWithAFastModel() {
    Stage stage;
    stage.view.resize(1280, 1200);
    stage.view.show();
    QTest::qWait(60);
    stage.view.beginGeneration({});
    QElapsedTimer clock;
    qint64 spent = 0, next = 0;
    constexpr int frames = 60;
    for (int frame = 0; frame < frames; ++frame) {
      std::vector<TokenPoint> points;
      for (int i = 0; i < 16; ++i, ++next) points.push_back(decoded(next, 1 + (next % 7) * 0.1));  // 1 000 tokens/s
      clock.start();
      stage.view.addTokens(points);
      QCoreApplication::processEvents();
      spent += clock.nsecsElapsed();
      QTest::qWait(12);
    }
    const double perFrame = static_cast<double>(spent) / 1e6 / frames;
    qInfo("%.2f ms to take 16 tokens in; %.2f ms of drawing per tick", perFrame, stage.clock.averageMs());
    QVERIFY2(perFrame < 16 * 3 && stage.clock.averageMs() < 16 * 3, "generous: three frames");
    QCOMPARE(stage.plot("latency")->chart().panels[0].series[0].x.size(), size_t(next));
  }

  void energyIsShownWhereItIsKnown() {
    Stage stage;
    stage.view.beginGeneration({});
    stage.view.addTokens({decoded(0, 20), decoded(1, 20)});
    QVERIFY(stage.plot("energy")->isHidden());
    TokenPoint measured = decoded(2, 20);
    measured.joules = 0.5;
    measured.gpu = QStringLiteral("350 W");
    stage.view.addTokens({measured});
    QVERIFY(!stage.plot("energy")->isHidden());
    QCOMPARE(stage.plot("energy")->chart().panels[0].series[0].x.size(), size_t{1});
    QTRY_VERIFY_WITH_TIMEOUT(stage.tile("Throughput")->detail().contains(QStringLiteral("per token")), 30000);
    stage.view.clear();
    QVERIFY(stage.plot("energy")->isHidden());
  }

  void everyTileAndPlotHasAName() {
    Stage stage;
    for (const StatTile* t : stage.view.findChildren<StatTile*>()) QVERIFY(!t->accessibleName().isEmpty());
    for (const PlotWidget* p : stage.view.plots()) {
      QVERIFY(!p->accessibleName().isEmpty());
      QVERIFY(p->focusPolicy() & Qt::TabFocus);
    }
  }
};

QTEST_MAIN(LiveTest)
#include "live.moc"
