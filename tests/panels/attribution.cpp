// SPDX-License-Identifier: GPL-3.0-or-later
// The attribution view: request, partial and complete results, a part of the answer, linked parts, comparison, files.
#include <QAbstractItemModelTester>
#include <QApplication>
#include <QClipboard>
#include <QComboBox>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QLabel>
#include <QPlainTextEdit>
#include <QPushButton>
#include <QSignalSpy>
#include <QTableView>
#include <QToolButton>
#include <numbers>

#include "panels/attribution/attribution_files.h"
#include "panels/attribution/attribution_view.h"
#include "panels/attribution/effect_scatter.h"
#include "panels/attribution/token_matrix.h"
#include "panels/knobs/segmented_editor.h"
#include "panels/text/token_flow.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;

namespace {

const std::string kContext = "The cat sat. The dög ran fast. It rained.";

// Three sources, an answer of two tokens; the second source made the second of them.
AttributeResult result(int evaluated) {
  AttributeResult r;
  r.method = "loo";
  r.response = "the dog";
  r.responseTokens = {7, 8};
  r.responseEnds = {3, 7};
  r.responseNll = {1.0f, 0.5f};
  r.spanLast = 2;
  r.baseLogProb = -1.5;
  r.noiseFloor = 0.05;
  r.noiseLogProbs = {{-1.0, -0.5}, {-1.001, -0.501}, {-0.999, -0.499}};
  const std::string sentences[] = {"The cat sat.", "The dög ran fast.", "It rained."};
  const float scores[][2] = {{0.3f, 0.1f}, {0.02f, 3.0f}, {-0.01f, 0.0f}};
  int64_t at = 0;
  for (int i = 0; i < 3; ++i) {
    Source source;
    source.id = i;
    source.text = sentences[i];
    source.start = at;
    source.end = at + static_cast<int64_t>(sentences[i].size());
    at = source.end + 1;
    if (i < evaluated) {
      source.perToken = {scores[i][0], scores[i][1]};
      source.score = static_cast<double>(scores[i][0]) + static_cast<double>(scores[i][1]);
      source.ablatedLogProb = r.baseLogProb - *source.score;
    }
    r.sources.push_back(source);
  }
  r.complete = evaluated == 3;
  r.forwards = evaluated + 1;
  return r;
}

JobState running() {
  JobState job;
  job.kind = JobState::Kind::attribute;
  job.running = true;
  job.fraction = 0.5;
  job.secondsLeft = 3;
  job.what = QStringLiteral("source 2 of 3");
  job.run = 12;
  return job;
}

struct Stage {
  AttributionView view;
  std::vector<AttributeSpec> asked;
  std::vector<AttributionDifferenceSpec> compared;
  Stage() {
    QObject::connect(&view, &AttributionView::runRequested, &view, [this](const AttributeSpec& spec) { asked.push_back(spec); });
    QObject::connect(&view, &AttributionView::differenceRequested, &view,
                     [this](const AttributionDifferenceSpec& spec) { compared.push_back(spec); });
    view.resize(1000, 640);
    view.show();
    view.setModel(true);
    view.setContext(QString::fromStdString(kContext), QStringLiteral("a.txt"));
  }
  void run() { child<QPushButton>(&view, "attribution.run")->click(); }
  void finish() {
    run();
    view.setResult(result(3));
  }
  QString detail() { return child<QLabel>(&view, "attribution.detail")->text(); }
  int wordOf(int source) {
    const auto& tokens = view.flow()->tokens();
    for (size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i].group == source) return static_cast<int>(i);
    return -1;
  }
};

}  // namespace

class AttributionTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void modelKeepsTheRules() {
    SourceModel model;
    QAbstractItemModelTester tester(&model, QAbstractItemModelTester::FailureReportingMode::Fatal);
    model.setResult(result(1));
    model.setResult(result(3));
    model.clear();
    QCOMPARE(model.rowCount(), 0);
  }

  void asksForWhatTheFormSays() {
    Stage stage;
    stage.run();
    QCOMPARE(stage.asked.size(), size_t{1});
    QCOMPARE(stage.asked[0].context.toStdString(), kContext);
    QCOMPARE(stage.asked[0].method, AttributeSpec().method);
    QVERIFY(stage.asked[0].unit == SourceUnit::sentence);
    QVERIFY(!stage.asked[0].resume);
    auto* method = child<QComboBox>(&stage.view, "attribution.method");
    QCOMPARE(method->count(), static_cast<int>(attributionMethods().size()));
    child<QToolButton>(&stage.view, "knob.attribution.time.own")->click();
    method->setCurrentIndex(method->findData(QStringLiteral("loo")));
    QCOMPARE(stage.view.spec().method, QStringLiteral("loo"));
    QCOMPARE(stage.view.spec().seconds, 0.0);
    child<QPlainTextEdit>(&stage.view, "attribution.context")->clear();
    QVERIFY(!child<QPushButton>(&stage.view, "attribution.run")->isEnabled());
  }

  void timeIsABudget() {
    Stage stage;
    QCOMPARE(stage.view.spec().seconds, 10.0);
    child<QToolButton>(&stage.view, "knob.attribution.time.2 s")->click();
    QCOMPARE(stage.view.spec().seconds, 2.0);
    QVERIFY(!child<QComboBox>(&stage.view, "attribution.method")->isVisible());
    child<QToolButton>(&stage.view, "knob.attribution.time.exact")->click();
    const AttributeSpec exact = stage.view.spec();
    QCOMPARE(exact.seconds, 0.0);
    QVERIFY(!exact.attribot.hierarchy && exact.attribot.reuse && exact.proxyPath.isEmpty());
    child<QToolButton>(&stage.view, "knob.attribution.time.own")->click();
    QVERIFY(child<QComboBox>(&stage.view, "attribution.method")->isVisible());
    // What is predicted stands there before the first score, what was reached after the last.
    AttributeResult before = result(0);
    AttributionForecast forecast;
    forecast.method = "attribot";
    forecast.seconds = 1.8;
    forecast.agreement = 0.93;
    forecast.agreementError = 0.04;
    before.forecasts = {forecast};
    before.forecast = 0;
    stage.run();
    stage.view.setResult(before);
    auto* label = child<QLabel>(&stage.view, "attribution.forecast");
    QVERIFY2(label->text().contains(QStringLiteral("0.93 ± 0.04")), qPrintable(label->text()));
    QVERIFY(!label->text().contains(QStringLiteral("Reached")));
    AttributeResult after = result(3);
    after.forecasts = before.forecasts;
    after.forecast = 0;
    after.ms = 1900;
    stage.view.setResult(after);
    QVERIFY2(label->text().contains(QStringLiteral("Reached in 1.90")), qPrintable(label->text()));
  }

  void anExactAnswerSaysWhatTheQuickOneWasWorth() {
    Stage stage;
    stage.finish();   // within ten seconds
    child<QToolButton>(&stage.view, "knob.attribution.time.exact")->click();
    stage.run();
    AttributeResult exact = result(3);
    std::swap(exact.sources[0].score, exact.sources[2].score);
    stage.view.setResult(exact);
    const QString said = child<QLabel>(&stage.view, "attribution.forecast")->text();
    QVERIFY2(said.contains(QStringLiteral("rank correlation 0.50")) && said.contains(QStringLiteral("the same strongest source")), qPrintable(said));
    // Under other knobs the two have nothing to say about each other.
    stage.finish();
    stage.view.setConfig(Config().with("weights.bits", int64_t{4}));
    QVERIFY(child<QLabel>(&stage.view, "attribution.forecast")->text().isEmpty());
  }

  void theProxyIsAFileOrComesWithWinnow() {
    Stage stage;
    auto* proxy = child<QComboBox>(&stage.view, "attribution.proxy");
    QVERIFY(stage.view.spec().proxyPath.isEmpty());
    QSignalSpy asked(&stage.view, &AttributionView::proxyFileRequested);
    proxy->setCurrentIndex(proxy->count() - 1);
    QCOMPARE(asked.count(), 1);
    QCOMPARE(proxy->currentIndex(), 0);  // until a file is named
    stage.view.setProxyFile(QStringLiteral("/models/small.gguf"));
    QCOMPARE(stage.view.spec().proxyPath, QStringLiteral("/models/small.gguf"));
  }

  void partialResultsThenAll() {
    Stage stage;
    stage.run();
    stage.view.setJob(running());
    QVERIFY(child<QPushButton>(&stage.view, "attribution.stop")->isEnabled());
    auto* status = child<QLabel>(&stage.view, "attribution.status");
    QVERIFY(status->text().contains(QStringLiteral("source 2 of 3")));
    QVERIFY(status->text().contains(QStringLiteral("3.00")));
    stage.view.setResult(result(1));
    int hatched = 0;
    for (const FlowToken& token : stage.view.flow()->tokens()) hatched += token.unscored;
    QVERIFY(hatched > 0);
    QCOMPARE(stage.view.flow()->text().toStdString(), kContext);
    stage.view.setJob({});
    stage.view.setResult(result(3));
    for (const FlowToken& token : stage.view.flow()->tokens()) QVERIFY(!token.unscored);
    QCOMPARE(stage.view.flow()->text().toStdString(), kContext);  // a two-byte letter does not shift anything
    // Ranked: the strongest first, noise called noise.
    SourceModel* model = stage.view.model();
    QCOMPARE(model->index(0, SourceModel::Text).data().toString(), QStringLiteral("The dög ran fast."));
    QVERIFY(model->index(0, SourceModel::Score).data().toString().contains(QStringLiteral("3.02")));
    QCOMPARE(model->index(0, SourceModel::Times).data().toString(), QStringLiteral("×20"));
    QVERIFY(model->index(0, SourceModel::Without).data().toString().contains(QStringLiteral("4.52")));
    QCOMPARE(model->index(2, SourceModel::Times).data().toString(), QStringLiteral("noise"));
    QCOMPARE(stage.view.flow()->scale().high, 3.02f);
  }

  void whatWasStoppedGoesOn() {
    Stage stage;
    auto* resume = child<QPushButton>(&stage.view, "attribution.resume");
    stage.run();
    QVERIFY(!resume->isVisible());
    stage.view.setJob(running());
    stage.view.setResult(result(1));
    stage.view.setJob({});
    QVERIFY(resume->isVisible());
    resume->click();
    QCOMPARE(stage.asked.size(), size_t{2});
    QCOMPARE(stage.asked[1].resume, std::optional<qint64>(12));
    stage.view.setJob(running());
    stage.view.setResult(result(3));
    stage.view.setJob({});
    QVERIFY(!resume->isVisible());  // there is nothing left to do
  }

  void errorsShowAsWhiskersAndUncertainScoresAsNoise() {
    SourceModel model;
    AttributeResult sampled = result(3);
    sampled.sources[0].standardError = 0.3;
    model.setResult(sampled);
    const int row = model.rowOf(0);
    QVERIFY(model.index(row, SourceModel::Score).data().toString().contains(QStringLiteral("± 0.30")));
    QCOMPARE(model.index(row, SourceModel::Score).data(ScoreNoiseRole).toBool(), true);  // 0.4 is within two of them
    QCOMPARE(model.index(row, SourceModel::Score).data(ScoreErrorRole).toDouble(), 0.3);
    QVERIFY(model.scale().errors);
  }

  void scaleOfWeakScoresStaysHonest() {
    Stage stage;
    stage.run();
    AttributeResult weak = result(3);
    for (Source& source : weak.sources) {
      source.score = *source.score / 10;
      for (float& each : source.perToken) each /= 10;
    }
    stage.view.setResult(weak);
    QCOMPARE(stage.view.flow()->scale().high, std::numbers::ln10_v<float>);
  }

  void pointingAndChoosingLinkAllParts() {
    Stage stage;
    stage.finish();
    auto* table = child<QTableView>(&stage.view, "attribution.table");
    QTest::mouseMove(stage.view.flow()->viewport(), stage.view.flow()->tokenRect(stage.wordOf(1)).center());
    QTRY_VERIFY2(stage.detail().contains(QStringLiteral("Source 2")), qPrintable(stage.detail()));
    QVERIFY2(stage.detail().contains(QStringLiteral("Without it log p = −4.52")) || stage.detail().contains(QStringLiteral("-4.52")),
             qPrintable(stage.detail()));
    QVERIFY2(stage.detail().contains(QStringLiteral("“dog” +3.0")), qPrintable(stage.detail()));
    QVERIFY(!table->currentIndex().isValid());                    // pointed at, not chosen
    QVERIFY(stage.view.answer()->colour() == FlowColour::score);  // the answer shows what it supported
    QTest::mouseClick(stage.view.flow()->viewport(), Qt::LeftButton, {}, stage.view.flow()->tokenRect(stage.wordOf(1)).center());
    QCOMPARE(table->currentIndex().data(SourceModel::SourceRole).toInt(), 1);
    // By keyboard, down the list.
    table->setFocus();
    QTest::keyClick(table, Qt::Key_Down);
    QCOMPARE(table->currentIndex().data(SourceModel::SourceRole).toInt(), 0);
    stage.view.chooseSource(-1);
    QVERIFY(!table->currentIndex().isValid());
  }

  void aPartOfTheAnswerIsAttributedAtOnce() {
    Stage stage;
    stage.finish();
    TokenFlow* answer = stage.view.answer();
    QCOMPARE(answer->tokens().size(), size_t{2});
    answer->setFocus();
    QTest::keyClick(answer, Qt::Key_Home);
    QTest::keyClick(answer, Qt::Key_Return);  // the first token alone
    QCOMPARE(answer->selectedTokens(), std::pair(0, 0));
    QCOMPARE(stage.asked.size(), size_t{1});  // no run
    QCOMPARE(stage.view.shown().spanLast, 1);
    QVERIFY(std::fabs(*stage.view.shown().sources[0].score - 0.3) < 1e-6);
    QCOMPARE(stage.view.model()->index(0, SourceModel::Text).data().toString(), QStringLiteral("The cat sat."));  // another order
    QVERIFY(child<QToolButton>(&stage.view, "attribution.whole")->isVisible());
    QTest::keyClick(answer, Qt::Key_Escape);
    QVERIFY(std::fabs(*stage.view.shown().sources[0].score - 0.4) < 1e-6);
    // By pointer, from the map's head; the same tokens light up in the answer.
    stage.view.showFigure(AttributionView::byToken);
    TokenMatrix* matrix = stage.view.matrix();
    const QRect column = matrix->cellRect(0, 1);
    QTest::mouseClick(matrix->viewport(), Qt::LeftButton, {}, QPoint(column.center().x(), 4));
    QCOMPARE(answer->selectedTokens(), std::pair(1, 1));
    QVERIFY(std::fabs(*stage.view.shown().sources[1].score - 3.0) < 1e-6);
    child<QToolButton>(&stage.view, "attribution.whole")->click();
    QCOMPARE(answer->selectedTokens(), std::pair(-1, -1));
  }

  void theMapIsReadByKeyboard() {
    Stage stage;
    stage.finish();
    stage.view.showFigure(AttributionView::byToken);
    TokenMatrix* matrix = stage.view.matrix();
    QCOMPARE(matrix->data().cells.size(), size_t{3});
    stage.view.activateWindow();
    QVERIFY(QTest::qWaitForWindowActive(&stage.view));
    matrix->setFocus(Qt::TabFocusReason);
    QCOMPARE(matrix->current(), std::pair(0, 0));
    QTest::keyClick(matrix, Qt::Key_Down);
    QTest::keyClick(matrix, Qt::Key_Right);
    QCOMPARE(matrix->current(), std::pair(1, 1));
    QVERIFY2(matrix->accessibleDescription().contains(QStringLiteral("“dog” owes +3.00")), qPrintable(matrix->accessibleDescription()));
    QTest::keyClick(matrix, Qt::Key_Return);
    QVERIFY(stage.detail().contains(QStringLiteral("Source 2")));
    QTest::keyClick(matrix, Qt::Key_Left, Qt::ShiftModifier);  // both tokens: that is all of it
    QCOMPARE(stage.view.shown().spanLast - stage.view.shown().spanFirst, 2);
    QVERIFY(matrix->describe(2, 0).contains(QStringLiteral("-0.01")) || matrix->describe(2, 0).contains(QStringLiteral("−0.01")));
    QVERIFY(matrix->describe(2, 1).contains(QStringLiteral("noise")));
  }

  void twoConfigurationsAreCompared() {
    Stage stage;
    stage.finish();
    auto* compare = child<QPushButton>(&stage.view, "attribution.compare");
    QVERIFY(!compare->isEnabled());  // A and B are the same
    stage.view.setConfig(Config().with("weights.bits", int64_t{2}));
    QVERIFY(compare->isEnabled());
    compare->click();
    QCOMPARE(stage.compared.size(), size_t{1});
    QVERIFY(stage.compared[0].a == Config());
    QCOMPARE(stage.compared[0].b.integer("weights.bits"), int64_t{2});
    QCOMPARE(stage.compared[0].spec.response, QStringLiteral("the dog"));  // the answer that is there
    AttributeResult b = result(3);
    b.sources[1].score = 0.01;
    b.sources[1].perToken = {0.01f, 0.0f};
    const auto difference = attributionDifference(result(3), b);
    QVERIFY(difference.ok());
    stage.view.setDifference(*difference);
    auto* table = child<QTableView>(&stage.view, "attribution.differences");
    QCOMPARE(table->model()->index(0, 4).data().toString(), QStringLiteral("The dög ran fast."));
    QCOMPARE(table->model()->index(0, 3).data().toString(), QStringLiteral("stopped reading"));
    QCOMPARE(table->model()->index(1, 3).data().toString(), QStringLiteral("within noise"));
    // The context wears the difference while its figure is open.
    QVERIFY(stage.view.flow()->tokens()[static_cast<size_t>(stage.wordOf(1))].score < -2.9f);
    stage.view.showFigure(AttributionView::ranking);
    QVERIFY(stage.view.flow()->tokens()[static_cast<size_t>(stage.wordOf(1))].score > -0.1f);
    QApplication::clipboard()->clear();
    stage.view.showFigure(AttributionView::difference);
    child<QToolButton>(&stage.view, "attribution.copy")->click();
    QVERIFY(QApplication::clipboard()->text().contains(QStringLiteral("stopped reading")));
    // Somebody's own A.
    child<QToolButton>(&stage.view, "attribution.pin")->click();
    QVERIFY(!compare->isEnabled());
    stage.view.setConfig(Config());
    compare->click();
    QCOMPARE(stage.compared.back().a.integer("weights.bits"), int64_t{2});
    QVERIFY(stage.compared.back().b == Config());
  }

  void attentionStandsBesideEffect() {
    Stage stage;
    stage.finish();
    child<QPushButton>(&stage.view, "attribution.readAttention")->click();
    QCOMPARE(stage.compared.size(), size_t{1});
    QCOMPARE(stage.compared[0].methodB, QStringLiteral("attention"));
    AttributeResult mass = result(3);
    mass.method = "attention";
    const double shares[] = {1, 2, 7};
    for (size_t i = 0; i < 3; ++i) mass.sources[i].score = shares[i];
    const auto difference = attributionDifference(result(3), mass);
    QVERIFY(difference.ok());
    stage.view.setDifference(*difference);
    const auto& points = stage.view.scatter()->points();
    QCOMPARE(points.size(), size_t{3});
    QCOMPARE(points[2].attention, 0.7);
    QVERIFY(points[2].noise);  // read, without effect
    QVERIFY(child<QLabel>(&stage.view, "attribution.attentionText")->text().contains(QStringLiteral("1 source gets more than its share")));
    QTest::mouseClick(stage.view.scatter(), Qt::LeftButton, {}, stage.view.scatter()->place(points[1]).toPoint());
    QVERIFY(stage.detail().contains(QStringLiteral("Source 2")));
    QTest::keyClick(stage.view.scatter(), Qt::Key_Right);  // more attention
    QVERIFY(stage.detail().contains(QStringLiteral("Source 3")));
  }

  void notesAreShown() {
    Stage stage;
    stage.run();
    AttributeResult noted = result(3);
    auto* notes = child<QLabel>(&stage.view, "attribution.notes");
    stage.view.setResult(noted);
    QVERIFY(!notes->isVisible());
    noted.notes = {"Sources 1 and 2 say the same.", "b", "c", "d"};
    stage.view.setResult(noted);
    QVERIFY(notes->isVisible());
    QVERIFY(notes->text().contains(QStringLiteral("say the same")));
    QVERIFY(notes->text().contains(QStringLiteral("and 1 more")));
    QVERIFY(notes->toolTip().contains(QLatin1Char('d')));
  }

  void filesHoldEverything() {
    const QByteArray csv = attributionCsv(result(2));
    QCOMPARE(csv.count("\r\n"), 4);
    QVERIFY2(csv.contains("1,13,31,3.02,\"The d\xc3\xb6g ran fast.\""), csv.constData());
    QVERIFY(csv.startsWith("id,start_byte,end_byte,score_nat,text"));
    QVERIFY(csv.contains("\"token 1  dog\""));
    const QJsonObject json = QJsonDocument::fromJson(attributionJson(result(2), QStringLiteral("Who?"), nullptr)).object();
    const QJsonArray sources = json.value(QStringLiteral("sources")).toArray();
    QCOMPARE(sources.size(), 3);
    QVERIFY(sources[2].toObject().value(QStringLiteral("score")).isNull());
    QCOMPARE(sources[1].toObject().value(QStringLiteral("per_token")).toArray().size(), 2);
    QCOMPARE(json.value(QStringLiteral("complete")).toBool(), false);
    QCOMPARE(json.value(QStringLiteral("question")).toString(), QStringLiteral("Who?"));
    Stage stage;
    QVERIFY(!child<QToolButton>(&stage.view, "attribution.exportTable")->isEnabled());
    stage.finish();
    QSignalSpy picture(&stage.view, &AttributionView::exportRequested);
    child<QToolButton>(&stage.view, "attribution.exportPicture")->click();
    QCOMPARE(picture.count(), 1);
    const Chart chart = picture.first().first().value<Chart>();
    QCOMPARE(chart.panels.size(), size_t{3});                      // the text, the bars, the map
    QCOMPARE(chart.panels[0].series[0].labels.size(), size_t{5});  // three sources, two spaces between them
    child<QToolButton>(&stage.view, "attribution.copy")->click();
    QVERIFY(QApplication::clipboard()->text().contains(QStringLiteral("×20\t")));
  }

  void everythingHasANameAndAPlaceForTheKeyboard() {
    Stage stage;
    stage.finish();
    for (const auto figure :
         {AttributionView::ranking, AttributionView::byToken, AttributionView::difference, AttributionView::attention}) {
      stage.view.showFigure(figure);
      QCOMPARE(winnow::testing::unnamedFocusable(&stage.view).join(QLatin1Char(10)), QString());
    }
    child<QToolButton>(&stage.view, "attribution.edit")->click();
    child<QToolButton>(&stage.view, "knob.attribution.time.own")->click();
    QCOMPARE(winnow::testing::unnamedFocusable(&stage.view).join(QLatin1Char(10)), QString());
  }

  void aStoredAttributionComesBack() {
    AttributionView view;
    view.setModel(true);
    view.showStored(result(3), QString::fromStdString(kContext), QStringLiteral("Who ran?"));
    QCOMPARE(view.flow()->text().toStdString(), kContext);
    QCOMPARE(view.model()->rowCount(), 3);
    QCOMPARE(view.answer()->text(), QStringLiteral("the dog"));
    QCOMPARE(view.spec().question, QStringLiteral("Who ran?"));
    // One that was stopped can go on.
    view.showStored(result(1), QString::fromStdString(kContext), {}, 5);
    QVERIFY(!child<QPushButton>(&view, "attribution.resume")->isHidden());
  }
};

WINNOW_TEST_MAIN(AttributionTest)
#include "attribution.moc"
