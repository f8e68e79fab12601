// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/plot_widget.h"

#include <QAccessible>
#include <QApplication>
#include <QCheckBox>
#include <QClipboard>
#include <QDialog>
#include <QElapsedTimer>
#include <QMimeData>
#include <QSignalSpy>
#include <QTableView>
#include <QtTest>
#include <cmath>
#include <random>

#include "experiments/statistics.h"
#include "panels/plot/bucket_series.h"
#include "panels/plot/marker_layout.h"

using namespace winnow;

namespace {

struct Stage {
  ThemeManager themes;
  ReplotClock clock;
  CursorLink cursor;
  AxisLink axis;
  Stage() { themes.applyTo(qApp); }
  PlotContext context() { return {&themes, &clock, &cursor, &axis}; }
  std::unique_ptr<PlotWidget> plot(const char* id = "latency") {
    return std::make_unique<PlotWidget>(context(), QString::fromLatin1(id), QStringLiteral("Latency"), ChartAxis{QStringLiteral("token"), QStringLiteral("token"), false, {}},
                                        ChartAxis{QStringLiteral("per token"), QStringLiteral("ms"), false, {}});
  }
  void settle() {
    for (int i = 0; i < 200 && (i < 3 || clock.active()); ++i) QTest::qWait(10);
  }
};

class Slow : public Replottable {
 public:
  Slow(int ms, std::vector<Slow*>* order) : ms_(ms), order_(order) {}
  bool isShown() const override { return shown; }
  void replotNow() override {
    ++count;
    order_->push_back(this);
    QElapsedTimer clock;
    clock.start();
    while (clock.elapsed() < ms_) {
    }
  }
  bool shown = true;
  int count = 0;

 private:
  int ms_;
  std::vector<Slow*>* order_;
};

double msPerReplot(PlotWidget& plot, int rounds) {
  QElapsedTimer clock;
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) {
    clock.start();
    plot.replotNow();
    plot.grab();
    times.push_back(static_cast<double>(clock.nsecsElapsed()) / 1e6);
  }
  return median(times);
}

}  // namespace

class PlotTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void bucketsAgainstBruteForce() {
    std::mt19937 random(3);
    BucketSeries series;
    std::vector<double> x, y;
    for (int i = 0; i < 1000; ++i) {
      if (random() % 7 == 0) continue;  // gaps in x
      x.push_back(i);
      y.push_back(random() % 13 == 0 ? std::nan("") : static_cast<double>(random() % 1000));
      series.append(x.back(), y.back());
      if (i % 37 == 0) (void)series.buckets(4, 0, 1000);  // asked while it grows
    }
    for (const int level : {1, 4, 7}) {
      const double width = std::exp2(level);
      const auto buckets = series.buckets(level, 0, 1000);
      for (const auto& b : buckets) {
        std::vector<double> inside;
        for (size_t i = 0; i < x.size(); ++i)
          if (std::floor(x[i] / width) == std::floor(b.x / width) && !std::isnan(y[i])) inside.push_back(y[i]);
        const Summary s = summarize(inside);
        QCOMPARE(b.n, s.n);
        if (s.n == 0) continue;
        QCOMPARE(b.p5, s.p5);
        QCOMPARE(b.p50, s.p50);
        QCOMPARE(b.p95, s.p95);
        QCOMPARE(b.max, s.max);
      }
      int64_t total = 0, there = 0;
      for (const auto& b : buckets) total += b.n;
      for (const double v : y) there += !std::isnan(v);
      QCOMPARE(total, there);
    }
    QCOMPARE(BucketSeries::levelFor(0.5), 0);
    QCOMPARE(BucketSeries::levelFor(1.0), 0);
    QVERIFY(std::exp2(BucketSeries::levelFor(3.3)) >= 6.6);
  }

  void nearLabelsBecomeOne() {
    const auto width = [](const QString& s) { return 7.0 * static_cast<double>(s.size()); };
    const auto far = layoutMarkers({{10, QStringLiteral("bits 8")}, {200, QStringLiteral("bits 4")}}, 0, 400, width);
    QCOMPARE(far.size(), size_t{2});
    QCOMPARE(far[1].label, QStringLiteral("bits 4"));
    const auto near = layoutMarkers({{100, QStringLiteral("bits 8")}, {110, QStringLiteral("bits 4")}, {120, QStringLiteral("bits 2")}, {300, QStringLiteral("kv")}}, 0, 400, width);
    QCOMPARE(near.size(), size_t{2});
    QCOMPARE(near[0].label, QStringLiteral("3 changes"));
    QCOMPARE(near[0].count, size_t{3});
    // Random ones: nothing overlaps, nothing leaves the plot, nothing is lost.
    std::mt19937 random(4);
    for (int round = 0; round < 500; ++round) {
      std::vector<MarkerInput> inputs;
      double at = 0;
      for (int i = 0; i < static_cast<int>(random() % 12); ++i) inputs.push_back({at += random() % 90, QString(static_cast<qsizetype>(1 + random() % 14), u'x')});
      std::erase_if(inputs, [](const MarkerInput& m) { return m.pixel > 400; });
      const auto groups = layoutMarkers(inputs, 0, 400, width);
      size_t count = 0;
      double end = -1;
      for (const MarkerGroup& g : groups) {
        QCOMPARE(g.first, count);
        count += g.count;
        if (g.label.isEmpty()) continue;
        QVERIFY(g.left > end && g.left + g.width <= 400.001 && g.left >= 0);
        end = g.left + g.width;
      }
      QCOMPARE(count, inputs.size());
    }
  }

  void clockDrawsOldestFirstWithinItsBudget() {
    ReplotClock clock;
    std::vector<Slow*> order;
    Slow a(6, &order), b(6, &order), c(1, &order), hidden(0, &order);
    hidden.shown = false;
    for (Slow* s : {&a, &hidden, &b, &c}) clock.request(s);
    for (int i = 0; i < 50; ++i) clock.request(&a);  // asked often, drawn once
    QTRY_COMPARE(c.count, 1);
    QCOMPARE(order, (std::vector<Slow*>{&a, &b, &c}));
    QCOMPARE(hidden.count, 0);
    QTRY_VERIFY(!clock.active());  // a waiting hidden plot costs no wake-ups
    hidden.shown = true;
    clock.request(&hidden);
    QTRY_COMPARE(hidden.count, 1);
    clock.request(&a);
    clock.forget(&a);
    QTest::qWait(60);
    QCOMPARE(a.count, 1);
  }

  void clockSlowsDownWhereDrawingIsSlow() {
    ReplotClock clock;
    std::vector<Slow*> order;
    Slow slow(20, &order);
    QTimer feed;
    connect(&feed, &QTimer::timeout, &clock, [&] { clock.request(&slow); });
    feed.start(1);
    QTRY_VERIFY_WITH_TIMEOUT(clock.interval() >= 33, 3000);
    feed.stop();
  }

  void hiddenPlotsAreNotDrawn() {
    Stage stage;
    auto plot = stage.plot();
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 500; ++i) plot->append(series, i, 20);
    stage.settle();
    QCOMPARE(plot->replots(), 0);
    plot->resize(600, 200);
    plot->show();
    stage.settle();
    const int drawn = plot->replots();
    QVERIFY(drawn >= 1 && drawn < 8);
    plot->hide();
    for (int i = 500; i < 1000; ++i) plot->append(series, i, 20);
    stage.settle();
    QCOMPARE(plot->replots(), drawn);
  }

  void manyAppendsAreFewReplots() {
    Stage stage;
    auto plot = stage.plot();
    plot->resize(900, 320);
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    plot->show();
    stage.settle();
    const int before = plot->replots();
    for (int i = 0; i < 10'000; ++i) plot->append(series, i, 20 + i % 5);
    stage.settle();
    QVERIFY2(plot->replots() - before <= 3, qPrintable(QString::number(plot->replots() - before)));
  }

  // A thick noisy line must not meet the slow stroker: a hundred times the points cost about the same.
  void drawingCostDoesNotFollowTheLength() {
    Stage stage;
    std::mt19937 random(1);
    std::normal_distribution<double> noise(20, 3);
    const auto filled = [&](int n) {
      auto plot = stage.plot();
      plot->resize(900, 320);
      const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
      for (int i = 0; i < n; ++i) plot->append(series, i, noise(random));
      return plot;
    };
    stage.axis.reset();
    auto small = filled(1000);
    const double few = msPerReplot(*small, 15);
    stage.axis.reset();
    auto large = filled(100'000);
    large->replotNow();
    const double many = msPerReplot(*large, 15);
    qInfo("replot and paint: %.2f ms at 1 000 points, %.2f ms at 100 000", few, many);
    QVERIFY2(many < 8 * few + 5, "the cost follows the number of points");
  }

  void movingTheCursorDrawsTheOverlayOnly() {
    Stage stage;
    auto plot = stage.plot();
    plot->resize(900, 320);
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 5000; ++i) plot->append(series, i, 20 + i % 7);
    plot->show();
    stage.settle();
    const int before = plot->replots();
    const QImage without = plot->grab().toImage();
    stage.cursor.setPosition(2500);
    QCOMPARE(plot->replots(), before);
    QTest::qWait(30);
    QVERIFY(plot->grab().toImage() != without);
    stage.cursor.clear();
    QTest::qWait(30);
    QCOMPARE(plot->replots(), before);
  }

  void cursorIsSharedAndTellsTokensOnce() {
    CursorLink cursor;
    QSignalSpy hovered(&cursor, &CursorLink::tokenHovered);
    QSignalSpy moved(&cursor, &CursorLink::positionChanged);
    cursor.setPosition(12.1);
    cursor.setPosition(12.3);
    cursor.setPosition(12.3);
    cursor.setPosition(13);
    cursor.setPosition(std::nan(""));
    cursor.clear();
    QCOMPARE(moved.count(), 4);
    QCOMPARE(hovered.count(), 3);
    QCOMPARE(hovered[0][0].toLongLong(), 12);
    QCOMPARE(hovered[2][0].toLongLong(), -1);
  }

  void hoveringAPlotMovesTheCursor() {
    Stage stage;
    auto plot = stage.plot();
    plot->resize(900, 320);
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 200; ++i) plot->append(series, i, 20);
    plot->show();
    stage.settle();
    QWidget* canvas = nullptr;
    for (QWidget* w : plot->findChildren<QWidget*>())
      if (w->inherits("QCustomPlot")) canvas = w;
    QVERIFY(canvas);
    QTest::mouseMove(canvas, QPoint(canvas->width() / 2, canvas->height() / 2));
    QTRY_VERIFY(stage.cursor.position());
    QVERIFY(stage.cursor.token() > 60 && stage.cursor.token() < 140);
    QSignalSpy selected(&stage.cursor, &CursorLink::tokenSelected);
    QTest::mouseClick(canvas, Qt::LeftButton, {}, QPoint(canvas->width() / 2, canvas->height() / 2));
    QCOMPARE(selected.count(), 1);
    QWheelEvent wheel(QPointF(450, 150), canvas->mapToGlobal(QPointF(450, 150)), {}, QPoint(0, 120), Qt::NoButton, Qt::NoModifier, Qt::NoScrollPhase, false);
    const double width = stage.axis.upper() - stage.axis.lower();
    QApplication::sendEvent(canvas, &wheel);
    QVERIFY(stage.axis.upper() - stage.axis.lower() < width);
    QCOMPARE(stage.axis.mode(), AxisLink::Mode::fixed);
    QTest::mouseDClick(canvas, Qt::LeftButton, {}, QPoint(450, 150));
    QCOMPARE(stage.axis.mode(), AxisLink::Mode::fit);
  }

  void everyPlotOfALinkShowsTheSameRange() {
    Stage stage;
    auto first = stage.plot("one"), second = stage.plot("two");
    const int a = first->addSeries({QStringLiteral("a"), 0, PlotWidget::Shape::line}), b = second->addSeries({QStringLiteral("b"), 1, PlotWidget::Shape::line});
    first->append(a, 0, 1);
    first->append(a, 900, 1);
    second->append(b, 5, 1);
    QVERIFY(stage.axis.upper() >= 900);
    QCOMPARE(stage.axis.lower(), 0.0);
    stage.axis.setRange(100, 200);
    first->append(a, 2000, 1);
    QCOMPARE(stage.axis.upper(), 200.0);  // a person's choice stays
    stage.axis.setMode(AxisLink::Mode::follow);
    QVERIFY(stage.axis.upper() >= 2000 && stage.axis.upper() - stage.axis.lower() < 101);
  }

  void keysWork() {
    Stage stage;
    auto plot = stage.plot();
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 300; ++i) plot->append(series, i, 20);
    plot->show();
    QTest::keyClick(plot.get(), Qt::Key_L);
    QVERIFY(plot->isLogarithmic());
    QTest::keyClick(plot.get(), Qt::Key_F);
    QCOMPARE(stage.axis.mode(), AxisLink::Mode::follow);
    QTest::keyClick(plot.get(), Qt::Key_Plus);
    QCOMPARE(stage.axis.mode(), AxisLink::Mode::fixed);
    QTest::keyClick(plot.get(), Qt::Key_0);
    QCOMPARE(stage.axis.mode(), AxisLink::Mode::fit);
    stage.cursor.setPosition(10);
    QTest::keyClick(plot.get(), Qt::Key_Period);
    QCOMPARE(stage.cursor.token(), 11);
    QTest::keyClick(plot.get(), Qt::Key_Comma);
    QTest::keyClick(plot.get(), Qt::Key_Comma);
    QCOMPARE(stage.cursor.token(), 9);
    QSignalSpy selected(&stage.cursor, &CursorLink::tokenSelected);
    QTest::keyClick(plot.get(), Qt::Key_Return);
    QCOMPARE(selected.count(), 1);
    QTest::keyClick(plot.get(), Qt::Key_T, Qt::ControlModifier);
    auto* dialog = plot->findChild<QDialog*>();
    QVERIFY(dialog);
    QCOMPARE(dialog->findChild<QTableView*>()->model()->rowCount(), 300);
    dialog->close();
    QTest::keyClick(plot.get(), Qt::Key_C, Qt::ControlModifier);
    QVERIFY(QApplication::clipboard()->mimeData()->hasImage());
    QCOMPARE(QApplication::clipboard()->text().count(u'\n'), 301);
  }

  void legendEntriesAreCheckBoxes() {
    Stage stage;
    auto plot = stage.plot("memory");
    const int weights = plot->addSeries({QStringLiteral("weights"), 0, PlotWidget::Shape::stack}), kv = plot->addSeries({QStringLiteral("KV cache"), 1, PlotWidget::Shape::stack});
    const int late = plot->addSeries({QStringLiteral("calibration"), 4, PlotWidget::Shape::stack, false, true});
    for (int i = 0; i < 10; ++i)
      for (const int s : {weights, kv, late}) plot->append(s, i, s == late ? 0 : 100);
    plot->resize(700, 240);
    plot->show();
    stage.settle();
    const auto boxes = plot->findChildren<QCheckBox*>();
    QCOMPARE(boxes.size(), 3);
    QVERIFY(boxes[2]->isHidden());  // nothing to show of it yet
    for (QCheckBox* box : boxes) {
      QVERIFY(box->focusPolicy() & Qt::TabFocus);
      QVERIFY(!box->accessibleName().isEmpty());
      QVERIFY(box->sizeHint().height() >= 24);
    }
    boxes[0]->setFocus();
    QTest::keyClick(boxes[0], Qt::Key_Space);
    QVERIFY(!plot->isSeriesVisible(weights));
    QCOMPARE(plot->chart().panels[0].series.size(), size_t{1});
    QTest::mouseClick(boxes[0], Qt::LeftButton, Qt::AltModifier);
    QVERIFY(plot->isSeriesVisible(weights) && !plot->isSeriesVisible(kv));
    plot->append(late, 10, 5);
    QVERIFY(!boxes[2]->isHidden());
  }

  void anOutlierDoesNotFlattenTheRest() {
    Stage stage;
    auto plot = stage.plot();
    plot->resize(900, 320);
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 400; ++i) plot->append(series, i, i == 200 ? 5000 : 20);
    plot->show();
    stage.settle();
    QCOMPARE(plot->chart().panels[0].series[0].y[200], 5000.0);  // it stays in the data
    const QImage with = plot->grab().toImage();
    auto calm = stage.plot();
    calm->resize(900, 320);
    const int other = calm->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 400; ++i) calm->append(other, i, 20);
    calm->show();
    stage.settle();
    // The line stands at about the same height; were the axis scaled to 5 000, it would lie on the floor.
    const QColor blue = stage.themes.theme().style(0).line;
    const auto heightOf = [&](const QImage& image) {
      for (int y = 38; y < image.height(); ++y)
        if (const QColor c(image.pixel(image.width() / 4, y)); std::abs(c.red() - blue.red()) + std::abs(c.blue() - blue.blue()) < 90) return y;
      return -1;
    };
    QVERIFY(heightOf(with) > 0 && heightOf(with) < 200);
    QVERIFY(heightOf(calm->grab().toImage()) > 0);
  }

  void describesItself() {
    Stage stage;
    auto plot = stage.plot();
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 512; ++i) plot->append(series, i, 20.3);
    QVERIFY(plot->summary(series).contains(QStringLiteral("512 points")));
    QVERIFY(plot->summary(series).contains(QStringLiteral("20.3")));
    QAccessibleInterface* accessible = QAccessible::queryAccessibleInterface(plot.get());
    QVERIFY(accessible);
    QCOMPARE(accessible->role(), QAccessible::Chart);
    QCOMPARE(accessible->text(QAccessible::Name), QStringLiteral("Latency"));
    QVERIFY(accessible->text(QAccessible::Description).contains(QStringLiteral("512 points")));
  }

  void crowdedEpochsCollapseInThePlot() {
    Stage stage;
    auto plot = stage.plot();
    plot->resize(700, 240);
    const int series = plot->addSeries({QStringLiteral("latency"), 0, PlotWidget::Shape::line});
    for (int i = 0; i < 1000; ++i) plot->append(series, i, 20);
    for (const int token : {100, 104, 108, 700}) plot->addMarker({static_cast<double>(token), QStringLiteral("weights.bits 16 → 4")});
    plot->show();
    stage.settle();
    QCOMPARE(plot->markerLabels(), size_t{2});
    stage.axis.setRange(98, 112);
    stage.settle();
    QCOMPARE(plot->markerLabels(), size_t{3});
  }
};

QTEST_MAIN(PlotTest)
#include "plot.moc"
