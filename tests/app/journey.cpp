// SPDX-License-Identifier: GPL-3.0-or-later
// The window driven as a person would: open a model, generate, turn every knob while text appears, find the run, compare, export,
// attribute, sweep, save, reopen.
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QLabel>
#include <QLineEdit>
#include <QPlainTextEdit>
#include <QTableView>
#include <QTableWidget>
#include <cmath>

#include "app/gui/evaluate_dialog.h"
#include "app/gui/plan_dialog.h"
#include "panels/attribution/attribution_view.h"
#include "panels/export/export_dialog.h"
#include "panels/plot/compare_view.h"
#include "tests/support/stage.h"

using namespace winnow;
using namespace winnow::testing;

namespace {

// The engine runs what was asked for, or the row says why not.
bool answered(Stage& stage, const char* name, const KnobValue& asked) {
  const Effective now = stage.workbench->effective();
  if (now.config.get(name) == asked) return true;
  const auto* note = stage.window->knobs()->findChild<QLabel*>(QStringLiteral("knob.%1.note").arg(QString::fromLatin1(name)));
  return std::any_of(now.adjustments.begin(), now.adjustments.end(), [&](const Adjustment& each) { return each.knob == name; }) && note &&
         note->isVisibleTo(stage.window.get()) && !note->text().isEmpty();
}

bool scored(const QSignalSpy& quality) {
  return std::any_of(quality.begin(), quality.end(), [](const QList<QVariant>& call) {
    const auto point = call.first().value<QualityPoint>();
    return point.windows > 0 && std::isfinite(point.perplexity) && point.perplexity > 1;
  });
}

// After a reset everything is at its default, but for sharing: its keys are gone until the cache is recomputed.
std::string sharingHeld(Stage& stage) {
  Config held;
  for (const Adjustment& each : stage.workbench->effective().adjustments) held = held.with(each.knob, each.effective);
  return held.canonical();
}

}  // namespace

class JourneyTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void cleanup() { closeDialogs(); }

  // What ./winnow opens with. The time is told; how long a busy machine takes is no failure.
  void starterWritesAtOnce() {
    QElapsedTimer clock;
    Stage stage;
    clock.start();
    QVERIFY(stage.open(QStringLiteral("starter")));
    QCOMPARE(stage.workbench->model().source, QStringLiteral("starter"));
    stage.window->prompt()->setPrompt(QStringLiteral("Once upon a time"));
    stage.action("run.generate")->trigger();
    QVERIFY(stage.moreTokens(0));
    qInfo("first token %lld ms after the window", static_cast<long long>(clock.elapsed()));
    QVERIFY(stage.idle());
    QVERIFY(stage.window->prompt()->flow()->tokens().size() > 20);
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
      QVERIFY(stage.open(someModel(), kLongContext));
      QVERIFY(!stage.window->startPageShown());

      // Generate; while text appears, fewer bits; undo goes back at once.
      PromptPanel* prompt = stage.window->prompt();
      prompt->setPrompt(QStringLiteral("Once upon a time"));
      QSignalSpy epochs(stage.workbench.get(), &Workbench::epochBegan);
      stage.generateForLong();
      QVERIFY(stage.moreTokens(6));
      stage.knob("knob.weights.bits.4")->click();
      QTRY_COMPARE_WITH_TIMEOUT(epochs.count(), 1, kLong);
      QCOMPARE(epochs.last().first().value<EpochPoint>().label, QStringLiteral("weights.bits 16 → 4"));
      QCOMPARE(stage.workbench->effective().config.integer("weights.bits"), int64_t{4});
      stage.action("edit.undo")->trigger();
      QTRY_COMPARE_WITH_TIMEOUT(epochs.count(), 2, kLong);
      QCOMPARE(epochs.last().first().value<EpochPoint>().cause, QStringLiteral("undo"));
      QCOMPARE(stage.workbench->effective().config.integer("weights.bits"), int64_t{16});
      QVERIFY(stage.stop());
      QVERIFY(prompt->flow()->text().contains(QStringLiteral("Once upon a time")));
      QTRY_VERIFY_WITH_TIMEOUT(stage.runs() >= 1, kLong);

      // A second run, a baseline, both compared.
      child<QSpinBox>(stage.window.get(), "tokens")->setValue(60);
      stage.action("run.generate")->trigger();
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

  // Each knob, moved by its own control while text appears, is answered: it runs, or the reason why not is on the row; tokens go on,
  // memory is told, the probe text is scored again.
  void everyKnobAnswersWhileTextAppears() {
    Stage stage;
    QVERIFY(stage.open(someModel(), kLongContext));
    QSignalSpy quality(stage.workbench.get(), &Workbench::qualityChanged);
    stage.generateForLong();
    QVERIFY(stage.moreTokens(200));
    const auto press = [&](const char* name) { return [&stage, name] { stage.knob(name)->click(); }; };
    const auto choose = [&](const char* name, const char* value) {
      return [&stage, name, value] { stage.knob<QComboBox>(name)->setCurrentText(QString::fromLatin1(value)); };
    };
    const auto set = [&](const char* name, double value) {
      return [&stage, name, value] { stage.knob<QDoubleSpinBox>(name)->setValue(value); };
    };
    const std::pair<const char*, std::function<void()>> steps[] = {
        {"weights.bits", press("knob.weights.bits.8")},
        {"weights.bits", press("knob.weights.bits.4")},
        {"weights.group", press("knob.weights.group.64")},
        {"weights.symmetric", press("knob.weights.symmetric.false")},
        {"compute.activations", press("knob.compute.activations.int8")},
        {"prune.ratio", set("knob.prune.ratio", 0.3)},
        {"prune.method", choose("knob.prune.method", "wanda")},
        {"kv.budget", set("knob.kv.budget", 50)},
        {"kv.sinks", set("knob.kv.sinks", 8)},
        {"kv.interval", set("knob.kv.interval", 32)},
        {"kv.policy", choose("knob.kv.policy", "h2o")},
        {"kv.policy", choose("knob.kv.policy", "window")},
        {"share.block", set("knob.share.block", 2)},
    };
    for (const auto& [name, move] : steps) {
      const KnobValue before = stage.workbench->requested().get(name);
      const size_t tokens = stage.window->prompt()->flow()->tokens().size();
      quality.clear();
      move();
      QTRY_VERIFY2_WITH_TIMEOUT(stage.workbench->requested().get(name) != before, name, kLong);
      const KnobValue asked = stage.workbench->requested().get(name);
      QTRY_VERIFY2_WITH_TIMEOUT(answered(stage, name, asked), name, kLong);
      QVERIFY2(stage.moreTokens(tokens + 3), name);
      QTRY_VERIFY2_WITH_TIMEOUT(scored(quality), name, kLong);
      const TokenPoint* last = stage.window->prompt()->pointAt(static_cast<int>(stage.window->prompt()->flow()->tokens().size()) - 1);
      QVERIFY(last && last->ms > 0 && last->memory[static_cast<size_t>(MemoryTag::kv)] > 0);
    }
    QCOMPARE(stage.workbench->effective().config.text("prune.method"), std::string("wanda"));  // measured on the text that ships
    // Undo, redo, reset: the whole way back and forth.
    const Config all = stage.workbench->requested();
    for (size_t i = 0; i < std::size(steps); ++i) stage.action("edit.undo")->trigger();
    QTRY_COMPARE_WITH_TIMEOUT(stage.workbench->requested(), Config(), kLong);
    for (size_t i = 0; i < std::size(steps); ++i) stage.action("edit.redo")->trigger();
    QTRY_COMPARE_WITH_TIMEOUT(stage.workbench->requested(), all, kLong);
    stage.action("edit.resetKnobs")->trigger();
    QTRY_COMPARE_WITH_TIMEOUT(stage.workbench->effective().config.canonical(), sharingHeld(stage), kLong);
    // Evicted tokens and keys that were never kept are gone: recomputing is offered with its cost, and brings them back.
    auto* rebuild = stage.knob("knobs.rebuild");
    QTRY_VERIFY_WITH_TIMEOUT(rebuild->isVisible(), kLong);
    QVERIFY2(rebuild->text().contains(QStringLiteral("≈")), qPrintable(rebuild->text()));
    QVERIFY(stage.stop());
    rebuild->click();
    QTRY_VERIFY_WITH_TIMEOUT(!stage.workbench->job().running && !stage.workbench->cacheMixed(), kLong);
    QVERIFY(!rebuild->isVisible());
    QCOMPARE(stage.workbench->effective().config, Config());
  }

  // A plan made in the window: stopped in the middle, gone on with, its runs in the table and side by side.
  void aPlanIsMadeStoppedAndResumed() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    stage.action("run.plan")->trigger();
    auto* dialog = stage.window->findChild<PlanDialog*>();
    QVERIFY(dialog && dialog->isVisible());
    auto* values = child<QLineEdit>(dialog, "plan.axis.values");
    auto* start = child<QAbstractButton>(dialog, "plan.start");
    auto* status = child<QLabel>(dialog, "plan.status");
    values->setText(QStringLiteral("16, 17"));   // what can't be is said at once
    QVERIFY(!start->isEnabled());
    QVERIFY2(status->text().contains(QStringLiteral("17")), qPrintable(status->text()));
    values->setText(QStringLiteral("16, 4"));
    dialog->editor()->addAxis(QStringLiteral("prune.ratio"), QStringLiteral("0, 0.5"));
    child<QSpinBox>(dialog, "plan.context")->setValue(64);
    child<QSpinBox>(dialog, "plan.chunks")->setValue(6);
    child<QCheckBox>(dialog, "plan.bench")->setChecked(false);
    child<QSpinBox>(dialog, "plan.repeats")->setValue(6);
    QCOMPARE(dialog->model()->rowCount(), 24);
    QVERIFY(child<QLabel>(dialog, "plan.title")->text().contains(QStringLiteral("24 points")));
    QVERIFY(start->isEnabled());

    StallDetector stalls;
    start->click();
    auto* stop = child<QAbstractButton>(dialog, "plan.stop");
    QTRY_VERIFY_WITH_TIMEOUT(stop->isEnabled() || dialog->model()->done() > 0, kLong);
    stage.workbench->stop();
    QTRY_VERIFY_WITH_TIMEOUT(!stage.workbench->job().running, kLong);
    QCOMPARE(stalls.verdict("plan"), QString());
    QTest::qWait(500);   // the dialog looks at the file
    auto* resume = child<QAbstractButton>(dialog, "plan.resume");
    const int done = dialog->model()->done();
    QVERIFY2(done < 24, "the plan was stopped too late to tell");
    QTRY_VERIFY_WITH_TIMEOUT(resume->isEnabled(), kLong);
    QVERIFY(!start->isEnabled());
    dialog->close();
    stage.action("run.plan")->trigger();   // the unfinished plan is offered again
    QVERIFY(status->text().contains(QStringLiteral("not finished")));
    resume->click();
    QTRY_COMPARE_WITH_TIMEOUT(dialog->model()->done(), 24, kLong);
    QVERIFY(stage.idle());
    QTRY_VERIFY_WITH_TIMEOUT(stage.runs() >= 24, kLong);
    size_t complete = 0;
    for (const auto& run : stage.window->runs()->model()->runs()) complete += run.sweep && run.status == storage::RunStatus::done;
    QCOMPARE(complete, size_t{24});
    auto* compare = child<QAbstractButton>(dialog, "plan.compare");
    QTRY_VERIFY_WITH_TIMEOUT(compare->isEnabled(), kLong);
    compare->click();
    auto* view = stage.window->findChild<CompareView*>();
    QVERIFY(view->isVisible() && view->chart());
    QCOMPARE(view->chart()->panels.front().x.categories.size(), qsizetype{4});
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
};

WINNOW_TEST_MAIN(JourneyTest)
#include "journey.moc"
