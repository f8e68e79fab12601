// SPDX-License-Identifier: GPL-3.0-or-later
// The real window with the real engine, driven as a person would: open a model, generate, turn a knob while text appears, find
// the run, compare, export, attribute, save, reopen; and closing at awkward moments.
#include <QAbstractButton>
#include <QComboBox>
#include <QDialog>
#include <QDragEnterEvent>
#include <QElapsedTimer>
#include <QLabel>
#include <QLineEdit>
#include <QMimeData>
#include <QPlainTextEdit>
#include <QSignalSpy>
#include <QSpinBox>
#include <QStackedWidget>
#include <QTableView>
#include <QTableWidget>
#include <QTabWidget>
#include <QTemporaryDir>
#include <QToolButton>
#include <QUrl>

#include "app/gui/action_registry.h"
#include "app/gui/banner.h"
#include "app/gui/command_palette.h"
#include "app/gui/main_window.h"
#include "app/gui/measure_dialog.h"
#include "panels/attribution/attribution_view.h"
#include "panels/export/export_dialog.h"
#include "panels/knobs/knob_panel.h"
#include "panels/runs/runs_view.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/token_flow.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;
using winnow::testing::sharedData;

namespace {

constexpr int kLong = 60000;  // ms: for slow machines and sanitizers

struct Stage {
  ThemeManager themes;
  Settings settings;
  std::unique_ptr<Workbench> workbench;
  std::unique_ptr<MainWindow> window;

  Stage() {
    themes.setMode(ThemeManager::Mode::light);
    workbench = std::make_unique<Workbench>(EngineOptions{});
    window = std::make_unique<MainWindow>(&themes, workbench.get(), &settings, machineInfo(0));
    window->resize(1440, 900);
    window->show();
  }
  ~Stage() {
    window.reset();
    workbench.reset();
  }
  QAction* action(const char* id) { return window->actions()->action(QString::fromLatin1(id)); }
  bool open(const QString& model) {
    window->openModel(model);
    return QTest::qWaitFor([this] { return workbench->hasModel() && !workbench->job().running; }, kLong);
  }
  bool idle() {
    return QTest::qWaitFor([this] { return !workbench->job().running && !workbench->weightsPending(); }, kLong);
  }
  size_t runs() const { return window->runs()->model()->runs().size(); }
};

QString smallModel() { return sharedData(QStringLiteral("models/stories260K-f32.gguf")); }

// The shared models where they are, else the starter that every build has.
QString someModel() { return QFileInfo::exists(smallModel()) ? smallModel() : QStringLiteral("starter"); }

// Fails the test when the event loop stood still for longer than `limitMs`.
class StallDetector : public QObject {
 public:
  explicit StallDetector(qint64 limitMs) : limitMs_(limitMs) {
    clock_.start();
    timer_.setInterval(10);
    connect(&timer_, &QTimer::timeout, this, [this] {
      worst = std::max(worst, clock_.restart() - 10);
    });
    timer_.start();
  }
  bool good() const { return worst <= limitMs_; }
  qint64 worst = 0;

 private:
  QTimer timer_;
  QElapsedTimer clock_;
  qint64 limitMs_;
};

}  // namespace

class JourneyTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void cleanup() {
    for (QWidget* each : QApplication::topLevelWidgets())
      if (qobject_cast<QDialog*>(each)) each->close();
  }

  void mainJourney() {
    QTemporaryDir folder;
    const QString sessionPath = folder.filePath(QStringLiteral("study.winnow"));
    size_t kept = 0;
    {
      Stage stage;
      QVERIFY(stage.window->startPageShown());
      QVERIFY(!stage.action("run.generate")->isEnabled());
      QString error;
      QVERIFY2(stage.workbench->createSession(sessionPath, &error), qPrintable(error));
      QVERIFY(stage.open(someModel()));
      QVERIFY(!stage.window->startPageShown());

      // Generate; while text appears, fewer bits.
      PromptPanel* prompt = stage.window->prompt();
      prompt->setPrompt(QStringLiteral("Once upon a time"));
      child<QSpinBox>(stage.window.get(), "tokens")->setValue(100);
      QSignalSpy epochs(stage.workbench.get(), &Workbench::epochBegan);
      StallDetector stalls(400);
      stage.action("run.generate")->trigger();
      QTRY_VERIFY_WITH_TIMEOUT(prompt->flow()->tokens().size() > 6, kLong);
      child<QAbstractButton>(stage.window->knobs(), "knob.weights.bits.4")->click();
      QVERIFY(stage.idle());
      QTRY_VERIFY_WITH_TIMEOUT(epochs.count() >= 1, kLong);
      QTRY_COMPARE_WITH_TIMEOUT(stage.workbench->effective().config.integer("weights.bits"), int64_t{4}, kLong);
      QTRY_VERIFY_WITH_TIMEOUT(!prompt->flow()->text().isEmpty(), kLong);
      QVERIFY(prompt->flow()->text().contains(QStringLiteral("Once upon a time")));
      qInfo("longest stall of the event loop: %lld ms", static_cast<long long>(stalls.worst));
      QVERIFY2(stalls.good(), qPrintable(QStringLiteral("the window stood still for %1 ms").arg(stalls.worst)));
      QTRY_VERIFY_WITH_TIMEOUT(stage.runs() >= 1, kLong);

      // Undo goes back at once.
      stage.action("edit.undo")->trigger();
      QTRY_COMPARE_WITH_TIMEOUT(stage.workbench->effective().config.integer("weights.bits"), int64_t{16}, kLong);

      // A second run, a baseline, both compared.
      stage.action("run.generate")->trigger();
      QTRY_VERIFY_WITH_TIMEOUT(stage.workbench->job().running || prompt->flow()->tokens().size() > 90, kLong);
      QVERIFY(stage.idle());
      QTRY_VERIFY_WITH_TIMEOUT(stage.runs() >= 2, kLong);
      stage.action("view.runs")->trigger();
      RunsView* runs = stage.window->runs();
      runs->select(runs->model()->runs().back().id);
      child<QAbstractButton>(runs, "runs.baseline")->click();
      QTRY_VERIFY_WITH_TIMEOUT(runs->model()->baseline() != nullptr, kLong);
      runs->table()->selectAll();
      child<QAbstractButton>(runs, "runs.compare")->click();

      // Export the comparison as PDF and as CSV.
      for (const char* suffix : {"pdf", "csv"}) {
        stage.action("file.export")->trigger();
        auto* dialog = stage.window->findChild<ExportDialog*>();
        QVERIFY(dialog);
        const QString path = folder.filePath(QStringLiteral("comparison.") + QString::fromLatin1(suffix));
        QVERIFY(dialog->save(path));
        QVERIFY(QFileInfo(path).size() > 100);
        delete dialog;
      }

      // Attribute an answer to a context.
      stage.action("view.attribution")->trigger();
      AttributionView* attribution = stage.window->attribution();
      attribution->setContext(QStringLiteral("Lily had a red ball. Tom had a blue hat. The dog was big."), {});
      child<QPlainTextEdit>(attribution, "attribution.response")->setPlainText(QStringLiteral("Lily had a red ball."));
      child<QAbstractButton>(attribution, "attribution.run")->click();
      QTRY_VERIFY_WITH_TIMEOUT(attribution->model()->rowCount() == 3 && !stage.workbench->job().running, kLong);
      for (const Source& source : attribution->model()->sources()) QVERIFY(source.score.has_value());
      QTRY_VERIFY_WITH_TIMEOUT(stage.runs() >= 3, kLong);
      kept = stage.runs();
      stage.window->grab().save(winnow::testing::pictureFolder() + QStringLiteral("/journey.png"));
      stage.window->close();
    }
    // Reopen: everything is there, and a stored run shows its tokens.
    Stage again;
    QVERIFY(again.window->openSession(sessionPath));
    QCOMPARE(again.runs(), kept);
    qint64 generated = -1;
    for (const auto& run : again.window->runs()->model()->runs())
      if (run.kind == storage::RunKind::generate) generated = run.id;
    again.window->openRun(generated);
    QVERIFY(again.window->prompt()->flow()->text().contains(QStringLiteral("Once upon a time")));
  }

  void evaluateSixteenAgainstFewBits() {
    const QString path = sharedData(QStringLiteral("models/llama2xs-280k-f32.gguf"));
    if (!QFileInfo::exists(path)) QSKIP("the shared model llama2xs-280k-f32.gguf is not there");
    Stage stage;
    QVERIFY(stage.open(path));
    stage.action("run.evaluate")->trigger();
    auto* dialog = stage.window->findChild<EvaluateDialog*>();
    QVERIFY(dialog);
    child<QSpinBox>(dialog, "evaluate.context")->setValue(128);
    child<QSpinBox>(dialog, "evaluate.chunks")->setValue(4);
    std::vector<double> perplexities;
    QSignalSpy finished(stage.workbench.get(), &Workbench::evaluateFinished);
    for (const char* bits : {"knob.weights.bits.16", "knob.weights.bits.4", "knob.weights.bits.2"}) {
      child<QAbstractButton>(stage.window->knobs(), bits)->click();
      QVERIFY(stage.idle());
      child<QAbstractButton>(dialog, "measure.start")->click();
      QTRY_COMPARE_WITH_TIMEOUT(finished.count(), static_cast<int>(perplexities.size()) + 1, kLong);
      const auto result = finished.last().first().value<PerplexityResult>();
      perplexities.push_back(result.perplexity);
      QVERIFY(result.kld.has_value());
      if (perplexities.size() == 1) QCOMPARE(result.kld->mean, 0.0);  // itself against itself
      QVERIFY(stage.idle());
    }
    QVERIFY2(perplexities[2] > perplexities[1] && perplexities[2] > perplexities[0] * 1.2,
             qPrintable(QStringLiteral("%1 %2 %3").arg(perplexities[0]).arg(perplexities[1]).arg(perplexities[2])));
    QCOMPARE(dialog->results()->rowCount(), 3);
  }

  void badFilesAreAnsweredInTheWindow_data() {
    QTest::addColumn<QByteArray>("content");
    QTest::addColumn<QString>("name");
    QTest::newRow("empty model") << QByteArray() << QStringLiteral("empty.gguf");
    QTest::newRow("not a model") << QByteArray("this is no model at all, only text") << QStringLiteral("text.gguf");
    QTest::newRow("not a session") << QByteArray("SQLite format 3, but not really") << QStringLiteral("fake.winnow");
    QTest::newRow("unknown kind") << QByteArray("x") << QStringLiteral("thing.xyz");
  }
  void badFilesAreAnsweredInTheWindow() {
    QFETCH(QByteArray, content);
    QFETCH(QString, name);
    QTemporaryDir folder;
    QFile file(folder.filePath(name));
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write(content);
    file.close();
    Stage stage;
    stage.window->openPath(file.fileName());
    QTRY_VERIFY_WITH_TIMEOUT(stage.window->banner()->isVisible(), kLong);
    QVERIFY2(stage.window->banner()->message().contains(name), qPrintable(stage.window->banner()->message()));
    QVERIFY(stage.window->startPageShown());
  }

  void aMissingModelLeavesTheOpenOne() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    const QString name = stage.workbench->model().name;
    stage.window->openModel(QStringLiteral("/nowhere/missing.gguf"));
    QTRY_VERIFY_WITH_TIMEOUT(stage.window->banner()->isVisible(), kLong);
    QVERIFY(stage.window->banner()->message().contains(QStringLiteral("missing.gguf")));
    QVERIFY(stage.workbench->hasModel());
    QCOMPARE(stage.workbench->model().name, name);
  }

  void closingAtAnyMoment_data() {
    QTest::addColumn<QString>("moment");
    for (const char* each : {"loading", "prefill", "generating", "converting", "evaluating", "attributing"})
      QTest::newRow(each) << QString::fromLatin1(each);
  }
  void closingAtAnyMoment() {
    QFETCH(QString, moment);
    auto stage = std::make_unique<Stage>();
    stage->window->openModel(someModel());
    if (moment != QStringLiteral("loading")) {
      QTRY_VERIFY_WITH_TIMEOUT(stage->workbench->hasModel() && !stage->workbench->job().running, kLong);
    }
    GenerateRequest request;
    request.prompt = QStringLiteral("Once upon a time");
    request.tokens = 4000;
    request.ignoreEos = true;
    if (moment == QStringLiteral("prefill") || moment == QStringLiteral("generating")) stage->workbench->generate(request);
    if (moment == QStringLiteral("generating")) QTRY_VERIFY_WITH_TIMEOUT(!stage->window->prompt()->flow()->tokens().empty(), kLong);
    if (moment == QStringLiteral("converting")) child<QAbstractButton>(stage->window->knobs(), "knob.weights.bits.3")->click();
    if (moment == QStringLiteral("evaluating")) {
      EvaluateSpec spec;
      spec.textInline = sampleText();
      spec.context = 128;
      stage->workbench->evaluate(spec);
      QTest::qWait(30);
    }
    if (moment == QStringLiteral("attributing")) {
      AttributeSpec spec;
      spec.context = sampleText().left(600);
      spec.responseTokens = 8;
      stage->workbench->attribute(spec);
      QTest::qWait(30);
    }
    QElapsedTimer clock;
    clock.start();
    stage->window->close();
    stage.reset();
    QVERIFY2(clock.elapsed() < 5000, qPrintable(QStringLiteral("closing took %1 ms").arg(clock.elapsed())));
  }

  void stopEndsWithinAMoment() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    GenerateRequest request;
    request.prompt = QStringLiteral("The dog");
    request.tokens = 100000;
    request.ignoreEos = true;
    stage.workbench->generate(request);
    QTRY_VERIFY_WITH_TIMEOUT(!stage.window->prompt()->flow()->tokens().empty() || !stage.workbench->job().running, kLong);
    QElapsedTimer clock;
    clock.start();
    stage.action("run.stop")->trigger();
    QTRY_VERIFY_WITH_TIMEOUT(!stage.workbench->job().running, kLong);
    QVERIFY2(clock.elapsed() < 2000, qPrintable(QStringLiteral("stopping took %1 ms").arg(clock.elapsed())));
  }

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

WINNOW_TEST_MAIN(JourneyTest)
#include "journey.moc"
