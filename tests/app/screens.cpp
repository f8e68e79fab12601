// SPDX-License-Identifier: GPL-3.0-or-later
// Pictures of every view, both themes, two sizes, beside the test program; and what can be asserted of them: everything is
// painted, nothing is cut off at the least size, every control can be reached and named.
#include <QAbstractButton>
#include <QCheckBox>
#include <QComboBox>
#include <QDockWidget>
#include <QDoubleSpinBox>
#include <QFile>
#include <QLabel>
#include <QLineEdit>
#include <QPlainTextEdit>
#include <QRegularExpression>
#include <QScrollArea>
#include <QSlider>
#include <QSpinBox>
#include <QTabWidget>
#include <QTableView>
#include <QTableWidget>
#include <QTemporaryDir>
#include <algorithm>

#include "app/gui/action_registry.h"
#include "app/gui/attention_dialog.h"
#include "app/gui/banner.h"
#include "app/gui/command_palette.h"
#include "app/gui/kept_mass_dialog.h"
#include "app/gui/main_window.h"
#include "app/gui/evaluate_dialog.h"
#include "app/gui/measure_dialog.h"
#include "app/gui/plan_dialog.h"
#include "app/gui/retrieval_dialog.h"
#include "app/gui/similarity_dialog.h"
#include "panels/attribution/attribution_view.h"
#include "panels/export/export_dialog.h"
#include "panels/knobs/knob_panel.h"
#include "panels/runs/runs_view.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/token_flow.h"
#include "panels/weights/super_weights_dialog.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;
using winnow::testing::sharedData;

namespace {
constexpr int kLong = 60000;  // ms
}

class ScreensTest : public QObject {
  Q_OBJECT

  ThemeManager themes_;
  Settings settings_;
  std::unique_ptr<Workbench> workbench_;
  std::unique_ptr<MainWindow> window_;

  // Both themes, two sizes; the picture must hold more than a few colours.
  void take(const QString& name, QWidget* what = nullptr) {
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark}) {
      themes_.setMode(mode);
      for (const QSize size : {QSize(1440, 900), QSize(1024, 700)}) {
        if (mode == ThemeManager::Mode::dark && size.width() < 1440) continue;
        if (!what) window_->resize(size);
        QTest::qWait(80);
        const QImage image = (what ? what : window_.get())->grab().toImage();
        QSet<QRgb> colours;
        for (int y = 0; y < image.height(); y += 3)
          for (int x = 0; x < image.width(); x += 3) colours.insert(image.pixel(x, y));
        QVERIFY2(colours.size() > 20, qPrintable(name));
        const QColor corner = image.pixelColor(2, image.height() - 3);
        QCOMPARE(corner.lightness() < 128, mode == ThemeManager::Mode::dark);
        image.save(QStringLiteral("%1/%2_%3_%4.png")
                       .arg(winnow::testing::pictureFolder(), name,
                            mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light"))
                       .arg(size.width()));
        if (what) break;
      }
    }
    if (!what) window_->resize(1440, 900);
  }
  bool idle() {
    return QTest::qWaitFor([this] { return !workbench_->job().running && !workbench_->weightsPending(); }, kLong);
  }
  void trigger(const char* action) { window_->actions()->action(QString::fromLatin1(action))->trigger(); }

 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void initTestCase() {
    themes_.applyTo(qApp);
    EngineOptions options;
    options.threads = 1;
    workbench_ = std::make_unique<Workbench>(options);
    window_ = std::make_unique<MainWindow>(&themes_, workbench_.get(), &settings_, machineInfo(0));
    window_->resize(1440, 900);
    window_->show();
  }
  void cleanupTestCase() {
    window_.reset();
    workbench_.reset();
  }

  void start() {
    take(QStringLiteral("start"));
    QCOMPARE(winnow::testing::unnamedFocusable(window_.get()).join(QLatin1Char(10)), QString());
  }

  void live() {
    const QString shared = sharedData(QStringLiteral("models/stories260K-f32.gguf"));
    // A long context: changes fall between its tokens.
    workbench_->openModel(QFileInfo::exists(shared) ? shared : QStringLiteral("starter"), 4096);
    auto* generate = window_->prompt()->findChild<QAbstractButton*>(QStringLiteral("generate"));
    QVERIFY(QTest::qWaitFor([&] { return generate->isEnabled(); }, kLong));
    window_->prompt()->setPrompt(QStringLiteral("Once upon a time there was a girl named Lily. She liked"));
    child<QSpinBox>(window_.get(), "tokens")->setValue(3000);
    child<QCheckBox>(window_.get(), "ignoreEnd")->setChecked(true);
    generate->click();
    const auto after = [&](size_t tokens) {
      return QTest::qWaitFor([&] { return window_->prompt()->flow()->tokens().size() > tokens || !workbench_->job().running; }, kLong);
    };
    QVERIFY(after(200));
    child<QAbstractButton>(window_->knobs(), "knob.weights.bits.8")->click();
    QVERIFY(after(700));
    child<QAbstractButton>(window_->knobs(), "knob.weights.bits.4")->click();
    QVERIFY(after(1200));
    child<QDoubleSpinBox>(window_->knobs(), "knob.kv.budget")->setValue(50);
    QVERIFY(after(1800));
    trigger("run.stop");
    QVERIFY(idle());
    QTest::qWait(1500);  // live quality
    take(QStringLiteral("live"));
    QCOMPARE(winnow::testing::unnamedFocusable(window_.get()).join(QLatin1Char(10)), QString());
  }

  void cache() {
    trigger("view.cache");
    auto* view = child<QWidget>(window_.get(), "cache");
    auto* time = child<QSlider>(view, "cache.time");
    const int newest = time->maximum();
    QVERIFY2(newest > 0, qPrintable(QString::number(newest)));  // a tenth of a second apart, and the machine may be fast
    QVERIFY(child<QLabel>(view, "cache.totals")->text().contains(QStringLiteral("50")));  // the budget
    take(QStringLiteral("cache"));
    child<QComboBox>(view, "cache.rows")->setCurrentIndex(1);
    time->setValue(newest / 2);
    take(QStringLiteral("cache_heads"));
    QCOMPARE(winnow::testing::unnamedFocusable(window_.get()).join(QLatin1Char(10)), QString());
    child<QAbstractButton>(view, "cache.newest")->click();
    QCOMPARE(time->value(), newest);
    trigger("view.live");
  }

  void latencyColours() {
    child<QComboBox>(window_.get(), "flow.colour")->setCurrentIndex(1);
    take(QStringLiteral("latency"));
    child<QComboBox>(window_.get(), "flow.colour")->setCurrentIndex(0);
  }

  void sampling() {
    child<QAbstractButton>(window_.get(), "sampling")->click();
    auto* popup = child<QWidget>(window_.get(), "sampling.popup");
    take(QStringLiteral("sampling"), popup);
    QCOMPARE(winnow::testing::unnamedFocusable(popup).join(QLatin1Char(10)), QString());
    popup->hide();
  }

  void token() {
    TokenFlow* flow = window_->prompt()->flow();
    QTest::mouseMove(flow->viewport(), flow->tokenRect(static_cast<int>(flow->tokens().size()) - 8).center());
    take(QStringLiteral("token"));
  }

  void knobsAtTheEnd() {
    auto* scroll = window_->knobs()->findChild<QScrollArea*>();
    scroll->ensureWidgetVisible(child<QWidget>(window_->knobs(), "row.compute.activations"));
    take(QStringLiteral("knobs"));
  }

  void evaluate() {
    trigger("run.evaluate");
    auto* dialog = window_->findChild<EvaluateDialog*>();
    child<QSpinBox>(dialog, "evaluate.context")->setValue(128);
    child<QSpinBox>(dialog, "evaluate.chunks")->setValue(3);
    for (const char* bits : {"knob.weights.bits.16", "knob.weights.bits.4", "knob.weights.bits.2"}) {
      child<QAbstractButton>(window_->knobs(), bits)->click();
      QVERIFY(idle());
      child<QAbstractButton>(dialog, "measure.start")->click();
      QTest::qWait(50);
      QVERIFY(idle());
    }
    take(QStringLiteral("evaluate"), dialog);
    child<QComboBox>(dialog, "evaluate.mode")->setCurrentIndex(4);  // by depth
    child<QLineEdit>(dialog, "evaluate.depths")->setText(QStringLiteral("16, many"));
    child<QAbstractButton>(dialog, "measure.start")->click();
    QVERIFY(child<QLabel>(dialog, "measure.status")->text().contains(QStringLiteral("many")));
    child<QLineEdit>(dialog, "evaluate.depths")->setText(QStringLiteral("16, 64, 128"));
    child<QSpinBox>(dialog, "evaluate.scored")->setValue(16);
    for (const char* bits : {"knob.weights.bits.2", "knob.weights.bits.4"}) {
      child<QAbstractButton>(window_->knobs(), bits)->click();
      QVERIFY(idle());
      child<QAbstractButton>(dialog, "measure.start")->click();
      QTest::qWait(50);
      QVERIFY(idle());
    }
    QTest::qWait(100);
    take(QStringLiteral("evaluateDepths"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    dialog->close();
  }

  void bench() {
    trigger("run.bench");
    auto* dialog = window_->findChild<BenchDialog*>();
    child<QSpinBox>(dialog, "bench.prompt")->setValue(32);
    child<QSpinBox>(dialog, "bench.generate")->setValue(16);
    child<QSpinBox>(dialog, "bench.repetitions")->setValue(2);
    child<QAbstractButton>(dialog, "measure.start")->click();
    QTest::qWait(50);
    QVERIFY(idle());
    take(QStringLiteral("bench"), dialog);
    dialog->close();
  }

  void attribution() {
    trigger("view.attribution");
    AttributionView* view = window_->attribution();
    view->setContext(sampleText().left(900), {});
    child<QPlainTextEdit>(view, "attribution.response")
        ->setPlainText(QStringLiteral("Mara threw the grain into the air and the husks flew away."));
    child<QAbstractButton>(view, "attribution.run")->click();
    QTest::qWait(50);
    QVERIFY(idle());
    take(QStringLiteral("attribution"));
    QCOMPARE(winnow::testing::unnamedFocusable(window_.get()).join(QLatin1Char(10)), QString());
  }

  void weights() {
    child<QAbstractButton>(window_->knobs(), "knob.weights.bits.3")->click();
    QVERIFY(idle());
    trigger("view.weights");
    auto* view = child<QWidget>(window_.get(), "weights");
    auto* table = child<QTableView>(view, "weights.table");
    QTRY_VERIFY_WITH_TIMEOUT(table->model()->rowCount() > 0, kLong);
    child<QAbstractButton>(view, "weights.sensitivity.measure")->click();
    QTest::qWait(50);
    QVERIFY(idle());
    const QRegularExpression all(QStringLiteral("(\\d+) of \\1$"));
    QTRY_VERIFY_WITH_TIMEOUT(
        std::ranges::any_of(view->findChildren<QLabel*>(), [&](const QLabel* label) { return all.match(label->text()).hasMatch(); }), kLong);
    table->selectRow(3);
    QVERIFY(QTest::qWaitFor([&] { return !child<QWidget>(view, "weights.progress")->isVisible(); }, kLong));
    take(QStringLiteral("weights"));
    child<QAbstractButton>(view, "weights.super")->click();
    QVERIFY(QTest::qWaitFor([this] { return window_->findChild<SuperWeightsDialog*>() != nullptr; }, kLong));
    auto* super = window_->findChild<SuperWeightsDialog*>();
    take(QStringLiteral("superWeights"), super);
    super->close();
    QCOMPARE(winnow::testing::unnamedFocusable(window_.get()).join(QLatin1Char(10)), QString());
  }

  void attentionOfHeads() {
    trigger("run.attention");
    auto* dialog = window_->findChild<AttentionDialog*>();
    QVERIFY(dialog);
    child<QSpinBox>(dialog, "attention.tokens")->setValue(60);
    child<QAbstractButton>(dialog, "attention.measure")->click();
    auto* head = child<QLabel>(dialog, "attention.head");
    QVERIFY2(QTest::qWaitFor([&] { return !head->text().isEmpty(); }, kLong), qPrintable(child<QLabel>(dialog, "attention.said")->text()));
    QVERIFY(head->text().startsWith(QStringLiteral("Layer 0, head 0")));
    auto* grid = child<QWidget>(dialog, "attention.grid");
    auto* map = child<QWidget>(dialog, "attention.map");
    QTest::keyClick(grid, Qt::Key_Down);
    QTest::keyClick(grid, Qt::Key_Right);
    QVERIFY(head->text().startsWith(QStringLiteral("Layer 1, head 1")));
    map->setFocus(Qt::TabFocusReason);
    QTest::keyClick(map, Qt::Key_Right);
    QVERIFY(child<QLabel>(dialog, "attention.said")->text().contains(QStringLiteral("of its attention to")));
    take(QStringLiteral("attention"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    dialog->close();
  }

  void attentionKept() {
    workbench_->setConfig(Config().with("kv.policy", std::string("snapkv")).with("kv.budget", 0.25), QStringLiteral("test"));
    trigger("run.keptMass");
    auto* dialog = window_->findChild<KeptMassDialog*>();
    QVERIFY(dialog);
    take(QStringLiteral("keptEmpty"), dialog);
    child<QSpinBox>(dialog, "kept.tokens")->setValue(96);
    child<QAbstractButton>(dialog, "kept.measure")->click();
    auto* all = child<QLabel>(dialog, "kept.all");
    QVERIFY2(QTest::qWaitFor([&] { return !all->text().isEmpty(); }, kLong), qPrintable(child<QLabel>(dialog, "kept.said")->text()));
    QVERIFY(all->text().contains(QStringLiteral("48 queries")) && all->text().contains(QStringLiteral("snapkv")));
    auto* map = child<QWidget>(dialog, "kept.map");
    map->setFocus(Qt::TabFocusReason);
    QVERIFY(child<QLabel>(dialog, "kept.said")->text().startsWith(QStringLiteral("Layer 0:")));
    QTest::keyClick(map, Qt::Key_Down);
    QTest::keyClick(map, Qt::Key_Right);
    QVERIFY(map->accessibleDescription().startsWith(QStringLiteral("Layer 1, head 0:")));
    take(QStringLiteral("kept"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    dialog->close();
    workbench_->setConfig(Config(), QStringLiteral("test"));
    QVERIFY(idle());
  }

  void retrieval() {
    trigger("run.retrieval");
    auto* dialog = window_->findChild<RetrievalDialog*>();
    QVERIFY(dialog);
    child<QLineEdit>(dialog, "retrieval.lengths")->setText(QStringLiteral("64, nine"));
    child<QAbstractButton>(dialog, "measure.start")->click();
    QVERIFY(child<QLabel>(dialog, "measure.status")->text().contains(QStringLiteral("nine")));
    child<QLineEdit>(dialog, "retrieval.lengths")->setText(QStringLiteral("64, 96"));
    child<QLineEdit>(dialog, "retrieval.depths")->setText(QStringLiteral("0, 50, 100"));
    child<QSpinBox>(dialog, "retrieval.trials")->setValue(1);
    child<QAbstractButton>(dialog, "measure.start")->click();
    auto* table = dialog->results();
    QVERIFY2(QTest::qWaitFor([&] { return table->rowCount() == 1 && table->item(0, 1)->text().endsWith(QStringLiteral("of 6")) && !workbench_->job().running; }, kLong),
             qPrintable(child<QLabel>(dialog, "measure.status")->text()));
    QTest::qWait(100);
    take(QStringLiteral("retrieval"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    child<QComboBox>(dialog, "retrieval.task")->setCurrentIndex(3);  // questions of a file
    QVERIFY(!child<QLineEdit>(dialog, "retrieval.lengths")->isEnabled());
    child<QAbstractButton>(dialog, "measure.start")->click();
    QVERIFY(child<QLabel>(dialog, "measure.status")->text().contains(QStringLiteral("No file")));
    QTemporaryDir folder;
    QFile questions(folder.filePath(QStringLiteral("q.jsonl")));
    QVERIFY(questions.open(QIODevice::WriteOnly));
    questions.write("{\"context\":\"Lily had a red ball.\",\"question\":\"Lily had a red\",\"response\":\" ball.\"}\n");
    questions.close();
    child<QLineEdit>(dialog, "retrieval.path")->setText(questions.fileName());
    child<QAbstractButton>(dialog, "measure.start")->click();
    QVERIFY2(QTest::qWaitFor([&] { return table->rowCount() == 2 && table->item(1, 1)->text().endsWith(QStringLiteral("of 1")) && !workbench_->job().running; }, kLong),
             qPrintable(child<QLabel>(dialog, "measure.status")->text()));
    take(QStringLiteral("retrievalQuestions"), dialog);
    dialog->close();
  }

  void similarity() {
    trigger("run.similarity");
    auto* dialog = window_->findChild<SimilarityDialog*>();
    QVERIFY(dialog);
    child<QSpinBox>(dialog, "similarity.tokens")->setValue(200);
    child<QAbstractButton>(dialog, "similarity.measure")->click();
    auto* map = child<QWidget>(dialog, "similarity.map");
    const QRegularExpression measured(QStringLiteral("^\\d+ layers$"));
    QVERIFY2(QTest::qWaitFor([&] { return measured.match(map->accessibleDescription()).hasMatch(); }, kLong),
             qPrintable(map->accessibleDescription() + QLatin1Char(' ') + child<QLabel>(dialog, "similarity.said")->text()));
    child<QDoubleSpinBox>(dialog, "similarity.threshold")->setValue(0);
    auto* spans = child<QLineEdit>(dialog, "similarity.spans");
    QVERIFY(spans->text().contains(QLatin1Char('-')));
    spans->setText(QStringLiteral("1-2"));
    take(QStringLiteral("similarity"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    child<QAbstractButton>(dialog, "similarity.share")->click();
    const auto sharing = [this] { return workbench_->effective().config.text("share.method"); };
    QTRY_COMPARE_WITH_TIMEOUT(sharing(), std::string("spans"), kLong);
    spans->clear();
    child<QAbstractButton>(dialog, "similarity.share")->click();
    QTRY_VERIFY_WITH_TIMEOUT(workbench_->requested().text("share.spans").empty(), kLong);
    QVERIFY(idle());
    spans->setText(QStringLiteral("7-2"));
    QVERIFY(!child<QAbstractButton>(dialog, "similarity.share")->isEnabled());
    dialog->close();
  }

  void runs() {
    trigger("view.runs");
    QTest::qWait(300);
    RunsView* runs = window_->runs();
    const auto& rows = runs->model()->runs();
    if (!rows.empty()) {
      runs->select(rows.back().id);
      child<QAbstractButton>(runs, "runs.baseline")->click();
      QTest::qWait(300);
    }
    take(QStringLiteral("runs"));
    QCOMPARE(winnow::testing::unnamedFocusable(window_.get()).join(QLatin1Char(10)), QString());
  }

  void compare() {
    window_->runs()->table()->selectAll();
    trigger("run.compare");
    take(QStringLiteral("compare"));
  }

  void exportDialog() {
    trigger("file.export");
    auto* dialog = window_->findChild<ExportDialog*>();
    QVERIFY(dialog);
    QTest::qWait(300);
    take(QStringLiteral("export"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    dialog->close();
  }

  void plan() {
    trigger("run.plan");
    auto* dialog = window_->findChild<PlanDialog*>();
    QVERIFY(dialog);
    child<QSpinBox>(dialog, "plan.context")->setValue(64);
    child<QSpinBox>(dialog, "plan.chunks")->setValue(2);
    child<QCheckBox>(dialog, "plan.bench")->setChecked(false);
    dialog->editor()->addAxis(QStringLiteral("kv.budget"), QStringLiteral("1, 0.5"));
    take(QStringLiteral("plan"), dialog);
    QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
    child<QAbstractButton>(dialog, "plan.start")->click();
    QVERIFY(idle());
    QTest::qWait(400);
    take(QStringLiteral("planDone"), dialog);
    dialog->close();
  }

  void events() {
    auto* dock = child<QDockWidget>(window_.get(), "dock.events");
    dock->raise();
    take(QStringLiteral("events"));
    child<QDockWidget>(window_.get(), "dock.prompt")->raise();
  }

  void helpDialogs() {
    for (const char* name : {"about", "shortcuts"}) {
      trigger(qPrintable(QStringLiteral("help.") + QString::fromLatin1(name)));
      auto* dialog = child<QDialog>(window_.get(), name);
      QVERIFY(dialog);
      take(QString::fromLatin1(name), dialog);
      QCOMPARE(winnow::testing::unnamedFocusable(dialog).join(QLatin1Char(10)), QString());
      delete dialog;
    }
    trigger("help.palette");
    auto* palette = window_->findChild<CommandPalette*>();
    take(QStringLiteral("palette"), palette);
    QCOMPARE(winnow::testing::unnamedFocusable(palette).join(QLatin1Char(10)), QString());
    delete palette;
  }

  void errorBanner() {
    trigger("view.live");
    window_->openPath(QStringLiteral("/nowhere/missing.gguf"));
    QTRY_VERIFY_WITH_TIMEOUT(window_->banner()->isVisible(), kLong);
    take(QStringLiteral("error"));
  }

  void leastSizeHoldsTheWindow() {
    window_->resize(820, 560);
    QTest::qWait(100);
    QVERIFY2(window_->width() <= 1024 && window_->height() <= 700,
             qPrintable(QStringLiteral("%1 x %2").arg(window_->width()).arg(window_->height())));
  }
};

WINNOW_TEST_MAIN(ScreensTest)
#include "screens.moc"
