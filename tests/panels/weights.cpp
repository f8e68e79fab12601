// SPDX-License-Identifier: GPL-3.0-or-later
// The weights view on figures made from formulas: what it shows, how it is read by keyboard, what it asks for, and how it looks.
#include <QComboBox>
#include <QHeaderView>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QSignalSpy>
#include <QTableView>
#include <QTableWidget>
#include <QToolButton>
#include <QtTest>
#include <cmath>

#include "experiments/format.h"
#include "panels/theme/theme_manager.h"
#include "panels/weights/bar_strip.h"
#include "panels/weights/super_weights_dialog.h"
#include "panels/weights/weight_files.h"
#include "panels/weights/weight_map.h"
#include "panels/weights/weights_view.h"
#include "tests/support/qt_main.h"

using namespace winnow;

namespace {

template <class T>
T* child(const QWidget& parent, const char* name) {
  T* found = winnow::testing::child<T>(&parent, name);
  if (!found) qFatal("no %s", name);
  return found;
}

WeightReport formulaReport(int layers) {
  WeightReport report;
  report.layers = layers;
  const auto add = [&](TensorRole role, int layer, int rows, int cols, double error) {
    TensorReport row;
    row.tensor = static_cast<int>(report.tensors.size()) + 2;
    row.role = role;
    row.layer = layer;
    row.name = "tensor." + std::to_string(row.tensor);
    row.format = error > 0 ? "4 bit g32 sym" : "bf16";
    row.rows = rows;
    row.cols = cols;
    row.bits = error > 0 ? 4.5 : 16;
    row.bytes = static_cast<int64_t>(rows * cols * row.bits / 8);
    row.signal = 1000;
    row.noise = 1000 * error * error;
    row.maxError = error / 3;
    row.sparsity = error / 2;
    if (layer >= 0) row.outputError = error * 0.8;
    report.values += static_cast<int64_t>(rows) * cols;
    report.bytes += row.bytes;
    report.masterBytes += static_cast<int64_t>(rows) * cols * 2;
    report.tensors.push_back(row);
  };
  add(TensorRole::tokenEmbedding, -1, 4096, 384, 0.08);
  const TensorRole roles[] = {TensorRole::q, TensorRole::k, TensorRole::v, TensorRole::o, TensorRole::gate, TensorRole::up, TensorRole::down};
  for (int layer = 0; layer < layers; ++layer)
    for (const TensorRole role : roles)
      add(role, layer, 384, 384, layer == 0 ? 0 : 0.06 + 0.03 * std::sin(layer + 2.0 * static_cast<double>(role)) + (role == TensorRole::down ? 0.05 : 0));
  return report;
}

WeightHistogram formulaHistogram(int tensor) {
  WeightHistogram h;
  h.tensor = tensor;
  h.name = "x";
  h.format = "4 bit g32 sym";
  h.low = -0.12;
  h.high = 0.12;
  for (int i = 0; i < 121; ++i) {
    const double x = (i - 60) / 16.0;
    h.before.push_back(static_cast<int64_t>(4000 * std::exp(-x * x / 2)));
    h.after.push_back(i % 4 == 0 ? static_cast<int64_t>(15000 * std::exp(-x * x / 2)) : static_cast<int64_t>(700 * std::exp(-x * x / 2)));
  }
  for (int code = 0; code < 16; ++code) h.codes.push_back(static_cast<int64_t>(20000 * std::exp(-(code - 8) * (code - 8) / 12.0)) * (code > 0));
  return h;
}

Sensitivity formulaSensitivity(int layers, int done) {
  Sensitivity s;
  s.settings = QStringLiteral("weights.method=rtn");
  s.protocol = QStringLiteral("llama");
  s.baseline = 6.61;
  const auto add = [&](const QString& name, int layer, const QString& rule, double kld) {
    Sensitivity::Point point;
    point.name = name;
    point.layer = layer;
    point.rule = rule;
    if (static_cast<int>(s.points.size()) < done) {
      point.state = storage::PointState::done;
      point.kld = kld;
      point.kldLow = kld * 0.9;
      point.kldHigh = kld * 1.1;
      point.perplexity = 6.61 * std::exp(kld);
      ++s.done;
    }
    s.points.push_back(point);
  };
  add({}, -1, {}, 0);
  for (int layer = 0; layer < layers; ++layer) add(QString::number(layer), layer, QStringLiteral("%1:4").arg(layer), 0.002 + 0.02 * std::exp(-layer / 2.0));
  for (const char* name : {"q", "k", "v", "o", "gate", "up", "down", "embedding"}) add(QLatin1String(name), -1, QStringLiteral("%1:4").arg(QLatin1String(name)), 0.01);
  return s;
}

void fill(WeightsView& view, int layers) {
  view.setModel(QStringLiteral("formula"));
  view.setCompressed(true);
  view.setReport(formulaReport(layers), QStringLiteral("weights.bits=4 weights.method=rtn"));
  view.setSensitivity(formulaSensitivity(layers, 100));
}

}  // namespace

class WeightsTest : public QObject {
  Q_OBJECT

 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void everyStateSaysWhatToDo() {
    WeightsView view;
    view.resize(900, 600);
    view.show();
    QVERIFY(child<WeightMap>(view, "weights.map")->accessibleDescription().contains(QStringLiteral("Open a model")));
    QVERIFY(!child<QToolButton>(view, "weights.export")->isEnabled());
    view.setModel(QStringLiteral("formula"));
    view.setComparing(0.4, {});
    QVERIFY(child<QProgressBar>(view, "weights.progress")->isVisible());
    QSignalSpy stop(&view, &WeightsView::stopComparingRequested), again(&view, &WeightsView::compareAgainRequested);
    child<QToolButton>(view, "weights.stop")->click();
    QCOMPARE(stop.size(), 1);
    view.setComparing(-1, {});
    QCOMPARE(child<QToolButton>(view, "weights.stop")->text(), QStringLiteral("Compare again"));
    child<QToolButton>(view, "weights.stop")->click();
    QCOMPARE(again.size(), 1);
    view.setComparing(-1, QStringLiteral("There is not enough memory to compare the weights."));
    QVERIFY(child<WeightMap>(view, "weights.map")->accessibleDescription().contains(QStringLiteral("memory")));
    fill(view, 6);
    view.setComparing(-1, {});
    QVERIFY(!child<QToolButton>(view, "weights.stop")->isVisible());
    QVERIFY(child<QLabel>(view, "weights.totals")->text().contains(QStringLiteral("weights.bits=4")));
  }

  void mapTableAndHistogramChooseTheSameMatrix() {
    WeightsView view;
    view.resize(1000, 700);
    view.show();
    fill(view, 6);
    auto* map = child<WeightMap>(view, "weights.map");
    auto* table = child<QTableView>(view, "weights.table");
    QSignalSpy asked(&view, &WeightsView::histogramRequested);
    QTest::mouseClick(map->viewport(), Qt::LeftButton, {}, map->cellRect(3).center());
    QCOMPARE(view.chosen(), 3);
    QCOMPARE(asked.size(), 1);
    QCOMPARE(table->currentIndex().data().toString(), QStringLiteral("layer 0 q"));
    QTest::keyClick(map, Qt::Key_Right);
    QCOMPARE(view.chosen(), 4);
    QTest::keyClick(map, Qt::Key_Down);
    QCOMPARE(view.chosen(), 11);
    QVERIFY(map->accessibleDescription().contains(QStringLiteral("layer 1 k")));
    QTest::keyClick(map, Qt::Key_Home);
    QCOMPARE(view.chosen(), 10);
    table->sortByColumn(1, Qt::AscendingOrder);  // SQNR, the worst first
    table->selectRow(0);
    const auto& rows = formulaReport(6).tensors;
    const auto worst = std::ranges::min_element(rows, {}, [](const TensorReport& row) { return row.sqnr(); });
    QCOMPARE(view.chosen(), worst->tensor);
    view.setHistogram(formulaHistogram(worst->tensor + 1));  // of another one: too late
    QVERIFY(child<BarStrip>(view, "weights.histogram")->data().bars.empty());
    view.setHistogram(formulaHistogram(worst->tensor));
    QCOMPARE(child<BarStrip>(view, "weights.histogram")->data().bars.size(), size_t{121 + 16});
    // A new version of the weights asks for the same matrix again.
    const qsizetype before = asked.size();
    view.setReport(formulaReport(6), QStringLiteral("weights.bits=3"));
    QCOMPARE(asked.size(), before + 1);
    QCOMPARE(view.chosen(), worst->tensor);
  }

  void theMapReadsInEveryQuantity() {
    WeightsView view;
    view.resize(1000, 700);
    view.show();
    fill(view, 4);
    auto* map = child<WeightMap>(view, "weights.map");
    auto* quantity = child<QComboBox>(view, "weights.quantity");
    QCOMPARE(quantity->count(), static_cast<int>(WeightQuantity::count));
    QVERIFY(map->describe(3).endsWith(QStringLiteral("SQNR exact")));
    const QImage first = map->viewport()->grab().toImage();
    for (int q = 1; q < quantity->count(); ++q) {
      quantity->setCurrentIndex(q);
      QVERIFY(map->viewport()->grab().toImage() != first);
      QVERIFY(map->describe(10).contains(quantityName(static_cast<WeightQuantity>(q))));
    }
  }

  void sensitivityIsMeasuredStoppedAndResumed() {
    WeightsView view;
    view.resize(1000, 700);
    view.show();
    fill(view, 5);
    view.setSensitivity(formulaSensitivity(5, 4));
    auto* bars = child<BarStrip>(view, "weights.sensitivity");
    QCOMPARE(bars->data().bars.size(), size_t{13});
    QVERIFY(std::isnan(bars->data().bars[12].value) && !std::isnan(bars->data().bars[0].value));
    QVERIFY(bars->data().bars[5].apart);
    auto* button = child<QPushButton>(view, "weights.sensitivity.measure");
    QSignalSpy measure(&view, &WeightsView::sensitivityRequested), stop(&view, &WeightsView::stopRequested);
    button->click();
    QCOMPARE(measure.size(), 1);
    JobState job;
    job.kind = JobState::Kind::plan;
    job.running = true;
    job.fraction = 0.4;
    job.secondsLeft = 65;
    view.setJob(job);
    QCOMPARE(button->text(), QStringLiteral("Stop"));
    QVERIFY(child<QProgressBar>(view, "weights.sensitivity.progress")->isVisible());
    button->click();
    QCOMPARE(stop.size(), 1);
    view.setJob({});
    view.setCompressed(false);
    QVERIFY(!button->isEnabled());
    bars->setFocus();
    QTest::keyClick(bars, Qt::Key_End);
    QVERIFY(bars->accessibleDescription().contains(QStringLiteral("not measured yet")));
    QTest::keyClick(bars, Qt::Key_Home);
    QVERIFY(bars->accessibleDescription().contains(QStringLiteral("only layer 0: KLD")));
  }

  void superWeightsAreListedAndKept() {
    SuperWeightsDialog dialog({{2, 3968, 7003, -0.75f, 412.0f, -309.5f}, {1, 12, 9, 6, 8.5f, 51}}, QStringLiteral("formula"), QStringLiteral("off"));
    dialog.show();
    auto* table = child<QTableWidget>(dialog, "weights.super.table");
    QCOMPARE(table->rowCount(), 2);
    QCOMPARE(table->item(0, 3)->text(), Format().significant(-0.75));
    QCOMPARE(winnow::testing::unnamedFocusable(&dialog), QStringList());
    QVERIFY(!dialog.findChild<QPushButton*>(QStringLiteral("weights.super.off")));  // it is off
    QSignalSpy chosen(&dialog, &SuperWeightsDialog::chosen);
    child<QPushButton>(dialog, "weights.super.keep")->click();
    QCOMPARE(chosen.size(), 1);
    QCOMPARE(chosen[0][0].toString(), QStringLiteral("keep"));
    QVERIFY(!dialog.isVisible());

    SuperWeightsDialog none({}, QStringLiteral("formula"), QStringLiteral("keep"));
    QVERIFY(child<QLabel>(none, "weights.super.said")->text().contains(QStringLiteral("No weight of formula stands out")));
    QVERIFY(!none.findChild<QTableWidget*>() && !none.findChild<QPushButton*>(QStringLiteral("weights.super.off")));
  }

  void filesHoldTheNumbers() {
    const WeightReport report = formulaReport(3);
    const Sensitivity sensitivity = formulaSensitivity(3, 100);
    const QByteArray csv = weightCsv(report, sensitivity);
    QCOMPARE(csv.split('\n').size(), 1 + 22 + 2 + 12 + 1);
    QVERIFY(csv.contains("tensor.9,0,down") || csv.contains(",0,down,"));
    const QJsonObject json = QJsonDocument::fromJson(weightJson(report, QStringLiteral("weights.bits=4"), sensitivity)).object();
    QCOMPARE(json["matrices"].toArray().size(), 22);
    QVERIFY(json["matrices"][1]["sqnr_db"].isNull() && json["matrices"][1]["exact"].toBool());
    QCOMPARE(json["sensitivity"]["points"].toArray().size(), 12);
    const Chart chart = weightChart(report, WeightQuantity::sqnr, QStringLiteral("formula"), {}, sensitivity);
    QCOMPARE(chart.panels.size(), size_t{2});
    QCOMPARE(chart.panels[0].cells.size(), size_t{3});
    QCOMPARE(chart.panels[0].x.categories.size(), 7);
    QVERIFY(toCsv(chart).contains("KL divergence"));
  }

  void pictures() {
    ThemeManager themes;
    themes.applyTo(qApp);
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark})
      for (const QSize& size : {QSize(1100, 760), QSize(700, 470)}) {
        themes.setMode(mode);
        WeightsView view;
        view.setTheme(themes.theme());
        view.resize(size);
        fill(view, 10);
        view.show();
        auto* map = child<WeightMap>(view, "weights.map");
        map->setFocus();
        QTest::mouseClick(map->viewport(), Qt::LeftButton, {}, map->cellRect(30).center());
        view.setHistogram(formulaHistogram(30));
        const QImage image = view.grab().toImage();
        QCOMPARE(image.size(), size);
        QCOMPARE(winnow::testing::unnamedFocusable(&view), QStringList());
        const QString theme = mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light");
        QVERIFY(image.save(winnow::testing::pictureFolder() + QStringLiteral("/weights_%1_%2.png").arg(size.width()).arg(theme)));
      }
    themes.setMode(ThemeManager::Mode::light);
  }
};

WINNOW_TEST_MAIN(WeightsTest)
#include "weights.moc"
