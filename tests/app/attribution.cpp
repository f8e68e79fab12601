// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution in the window with the real engine: a file of questions, a budget, a part of the answer, two configurations, attention,
// resuming, the run reopened; and pictures of it in both themes and two sizes.
#include <QComboBox>
#include <QLabel>
#include <QLineEdit>
#include <QPlainTextEdit>
#include <QScrollArea>
#include <QTabWidget>
#include <QTableView>

#include "experiments/model_source.h"
#include "panels/attribution/attribution_view.h"
#include "panels/attribution/effect_scatter.h"
#include "panels/attribution/token_matrix.h"
#include "panels/export/export_dialog.h"
#include "tests/support/stage.h"

using namespace winnow;
using namespace winnow::testing;

namespace {

// One that answers, where the shared models are.
QString storyModel() {
  const QString path = sharedData(QStringLiteral("models/tinystories-instruct-3m-chat-f32.gguf"));
  return QFileInfo::exists(path) ? path : someModel();
}

// The control a person or a screen reader finds by its name.
template <class T = QAbstractButton>
T* named(const QWidget* root, const QString& name) {
  for (T* each : root->findChildren<T*>()) {
    if (!each->isVisibleTo(root)) continue;
    QAccessibleInterface* spoken = QAccessible::queryAccessibleInterface(each);
    if (spoken && spoken->text(QAccessible::Name) == name) return each;
  }
  return nullptr;
}

}  // namespace

class AttributionAppTest : public QObject {
  Q_OBJECT
  std::unique_ptr<Stage> stage_;
  AttributionView* view() const { return stage_->window->attribution(); }

  void press(const QString& name) {
    auto* button = named(stage_->window.get(), name);
    QVERIFY2(button && button->isEnabled(),
             qPrintable(name + (button ? QStringLiteral(" is disabled: ") + button->toolTip() : QStringLiteral(" is not there"))));
    button->click();
  }
  bool done() {
    return QTest::qWaitFor([this] { return !stage_->workbench->job().running && view()->shown().complete; }, kLong) && stage_->idle();
  }
  bool attribute() {
    press(QStringLiteral("Attribute"));
    return QTest::qWaitFor([this] { return stage_->workbench->job().running || view()->shown().complete; }, kLong) && done();
  }
  void take(const char* name) {
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark}) {
      stage_->themes.setMode(mode);
      for (const QSize size : {QSize(1280, 800), QSize(1920, 1080)}) {
        stage_->window->resize(size);
        QTest::qWait(60);
        QCOMPARE(stage_->window->size(), size);  // nothing asks for more room than that
        stage_->window->grab().save(QStringLiteral("%1/attribution_%2_%3_%4.png")
                                        .arg(pictureFolder(), QString::fromLatin1(name),
                                             mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light"))
                                        .arg(size.width()));
      }
    }
    stage_->themes.setMode(ThemeManager::Mode::light);
  }

 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void initTestCase() {
    stage_ = std::make_unique<Stage>();
    stage_->themes.applyTo(qApp);
    QVERIFY(stage_->open(storyModel()));
    stage_->action("view.attribution")->trigger();
  }
  void cleanupTestCase() { stage_.reset(); }
  void cleanup() { closeDialogs(); }

  void emptyItSaysWhatToDo() {
    QVERIFY(!stage_->window->prompt()->isVisible());  // room for the attribution
    QVERIFY(named(stage_->window.get(), QStringLiteral("Attribute"))->toolTip().contains(QStringLiteral("empty")));
    take("empty");
    QCOMPARE(unnamedFocusable(stage_->window.get()).join(QLatin1Char(10)), QString());
  }

  void aQuestionFromAFile() {
    const QString stories = QString::fromStdString(findResource("stories/stories.jsonl"));
    QVERIFY(!stories.isEmpty());
    stage_->window->openPath(stories);
    QCOMPARE(child<QSpinBox>(view(), "attribution.example")->maximum(), 20);
    QVERIFY(!named<QLineEdit>(view(), QStringLiteral("Question"))->text().isEmpty());
    QCOMPARE(static_cast<int>(view()->findChild<SourcesEditor*>()->pieces().size()), 7);
    take("sources");
    press(QStringLiteral("Time: exact"));
    QVERIFY(attribute());
    for (const Source& source : view()->shown().sources) QVERIFY(source.score && source.ablatedLogProb);
    QCOMPARE(view()->model()->rowCount(), 7);
    // The sentence that names the place made the answer, whatever the model is worth: where it was trained.
    if (storyModel().contains(QStringLiteral("instruct"))) QCOMPARE(view()->model()->index(0, 0).data(SourceModel::SourceRole).toInt(), 4);
    view()->chooseSource(4);
    take("ranking");
    view()->showFigure(AttributionView::byToken);
    take("tokens");
  }

  void aPartOfItAtOnce() {
    const auto before = view()->shown().forwards;
    const auto runs = stage_->runs();
    view()->answer()->setFocus();
    QTest::keyClick(view()->answer(), Qt::Key_Home);
    QTest::keyClick(view()->answer(), Qt::Key_Right, Qt::ShiftModifier);
    const auto [first, last] = view()->answer()->selectedTokens();
    QCOMPARE(std::pair(first, last), std::pair(0, 1));
    if (view()->answer()->tokens().size() > 2) QCOMPARE(view()->shown().spanLast, 2);
    QVERIFY(!stage_->workbench->job().running);
    QCOMPARE(view()->shown().forwards, before);
    QCOMPARE(stage_->runs(), runs);
    const auto& whole = view()->shown().sources;
    for (const Source& source : whole) {
      double sum = 0;
      for (int i = view()->shown().spanFirst; i < view()->shown().spanLast; ++i)
        sum += static_cast<double>(source.perToken[static_cast<size_t>(i)]);
      QVERIFY(std::fabs(sum - *source.score) < 1e-3);
    }
    QTest::keyClick(view()->answer(), Qt::Key_Escape);
    QVERIFY(!child<QAbstractButton>(view(), "attribution.whole")->isVisible());
  }

  void aBudgetIsPredictedAndKept() {
    press(QStringLiteral("Time: 2 s"));
    QVERIFY(attribute());
    const QString said = child<QLabel>(view(), "attribution.forecast")->text();
    QVERIFY2(said.contains(QStringLiteral("Predicted")) && said.contains(QStringLiteral("Reached in")), qPrintable(said));
    QVERIFY(!view()->shown().forecasts.empty());
    take("budget");
  }

  void twoConfigurations() {
    stage_->knob("knob.weights.bits.4")->click();
    QVERIFY(stage_->idle());
    press(QStringLiteral("Time: exact"));
    view()->showFigure(AttributionView::difference);
    press(QStringLiteral("Compare"));
    auto* table = child<QTableView>(view(), "attribution.differences");
    QTRY_COMPARE_WITH_TIMEOUT(table->model()->rowCount(), 7, kLong);
    QVERIFY(stage_->idle());
    take("compare");
    QTRY_VERIFY_WITH_TIMEOUT(stage_->runs() >= 4, kLong);  // both sides are kept
  }

  void attentionBesideEffect() {
    view()->showFigure(AttributionView::attention);
    press(QStringLiteral("Read attention"));
    QTRY_COMPARE_WITH_TIMEOUT(view()->scatter()->points().size(), size_t{7}, kLong);
    QVERIFY(stage_->idle());
    take("attention");
    stage_->knob("knob.weights.bits.16")->click();
    QVERIFY(stage_->idle());
  }

  void byHandAndExported() {
    press(QStringLiteral("Sources"));
    auto* editor = view()->findChild<SourcesEditor*>();
    QTextCursor cursor = editor->textCursor();
    cursor.setPosition(12);
    editor->setTextCursor(cursor);
    editor->setFocus();
    QTest::keyClick(editor, Qt::Key_Return, Qt::ControlModifier);
    QCOMPARE(static_cast<int>(editor->pieces().size()), 8);
    take("hand");
    QVERIFY(attribute());
    QCOMPARE(view()->model()->rowCount(), 8);
    view()->showFigure(AttributionView::ranking);
    press(QStringLiteral("Picture…"));
    auto* dialog = stage_->window->findChild<ExportDialog*>();
    QVERIFY(dialog);
    QTemporaryDir folder;
    for (const char* name : {"a.png", "a.svg", "a.pdf"}) {
      const QString path = folder.filePath(QString::fromLatin1(name));
      QVERIFY(winnow::exportChart(view()->chart(), ExportOptions(), path).ok());
      QVERIFY(QFileInfo(path).size() > 1000);
      QFile::remove(pictureFolder() + QStringLiteral("/attribution_export_") + QString::fromLatin1(name));
      QFile::copy(path, pictureFolder() + QStringLiteral("/attribution_export_") + QString::fromLatin1(name));
    }
  }

  void theRunIsReopened() {
    QTRY_VERIFY_WITH_TIMEOUT(stage_->runs() >= 7, kLong);  // one exact, one in time, two compared, two for attention, one cut by hand
    storage::Id run = -1;
    for (const auto& each : stage_->window->runs()->model()->runs())
      if (each.kind == storage::RunKind::attribute) run = std::max(run, each.id);
    const auto scores = view()->shown();
    stage_->action("view.live")->trigger();
    QVERIFY(stage_->window->prompt()->isVisible());  // given back
    stage_->window->openRun(run);
    QVERIFY(view()->isVisible());
    QCOMPARE(view()->shown().sources.size(), scores.sources.size());
    QCOMPARE(view()->answer()->tokens().size(), scores.responseEnds.size());
    view()->selectSpan(0, 0);  // stored scores of single tokens
    QVERIFY(view()->shown().responseEnds.size() < 2 || view()->shown().spanLast == 1);
    QCOMPARE(unnamedFocusable(stage_->window.get()).join(QLatin1Char(10)), QString());
  }
};

WINNOW_TEST_MAIN(AttributionAppTest)
#include "attribution.moc"
