// SPDX-License-Identifier: GPL-3.0-or-later
// The attribution view: request, partial and complete results, linked hovering, files.
#include <QAbstractItemModelTester>
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

#include "panels/attribution/attribution_view.h"
#include "panels/text/token_flow.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;

namespace {

const std::string kContext = "The cat sat. The dög ran fast. It rained.";

AttributeResult result(int evaluated) {
  AttributeResult r;
  r.method = "loo";
  r.response = "the dog";
  r.noiseFloor = 0.05;
  const std::string sentences[] = {"The cat sat.", "The dög ran fast.", "It rained."};
  const double scores[] = {0.4, 3.02, -0.01};
  int64_t at = 0;
  for (int i = 0; i < 3; ++i) {
    Source source;
    source.id = i;
    source.text = sentences[i];
    source.start = at;
    source.end = at + static_cast<int64_t>(sentences[i].size());
    at = source.end + 1;
    if (i < evaluated) source.score = scores[i];
    r.sources.push_back(source);
  }
  r.complete = evaluated == 3;
  r.forwards = evaluated + 1;
  return r;
}

struct Stage {
  AttributionView view;
  std::vector<AttributeSpec> asked;
  Stage() {
    QObject::connect(&view, &AttributionView::runRequested, &view, [this](const AttributeSpec& spec) { asked.push_back(spec); });
    view.resize(1000, 600);
    view.show();
    view.setModel(true);
    view.setContext(QString::fromStdString(kContext), QStringLiteral("a.txt"));
  }
  void run() { child<QPushButton>(&view, "attribution.run")->click(); }
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
    auto* method = child<QComboBox>(&stage.view, "attribution.method");
    QCOMPARE(method->count(), static_cast<int>(attributionMethods().size()));
    method->setCurrentIndex(method->findData(QStringLiteral("loo")));
    QCOMPARE(stage.view.spec().method, QStringLiteral("loo"));
    QVERIFY(stage.asked[0].unit == SourceUnit::sentence);
    child<QPlainTextEdit>(&stage.view, "attribution.context")->clear();
    QVERIFY(!child<QPushButton>(&stage.view, "attribution.run")->isEnabled());
  }

  void partialResultsThenAll() {
    Stage stage;
    stage.run();
    JobState job;
    job.kind = JobState::Kind::attribute;
    job.running = true;
    job.fraction = 0.5;
    job.secondsLeft = 3;
    job.what = QStringLiteral("source 2 of 3");
    stage.view.setJob(job);
    QVERIFY(child<QPushButton>(&stage.view, "attribution.stop")->isEnabled());
    QVERIFY(child<QLabel>(&stage.view, "attribution.status")->text().contains(QStringLiteral("source 2 of 3")));
    stage.view.setResult(result(1));
    int hatched = 0;
    for (const FlowToken& token : stage.view.flow()->tokens()) hatched += token.unscored;
    QVERIFY(hatched > 0);
    QCOMPARE(stage.view.flow()->text().toStdString(), kContext);
    stage.view.setJob({});
    stage.view.setResult(result(3));
    for (const FlowToken& token : stage.view.flow()->tokens()) QVERIFY(!token.unscored);
    QCOMPARE(stage.view.flow()->text().toStdString(), kContext);   // a two-byte letter does not shift anything
    // Ranked: the strongest first, noise called noise.
    SourceModel* model = stage.view.model();
    QCOMPARE(model->index(0, SourceModel::Text).data().toString(), QStringLiteral("The dög ran fast."));
    QVERIFY(model->index(0, SourceModel::Score).data().toString().contains(QStringLiteral("3.02")));
    QCOMPARE(model->index(0, SourceModel::Times).data().toString(), QStringLiteral("×20"));
    QCOMPARE(model->index(2, SourceModel::Times).data().toString(), QStringLiteral("noise"));
    QCOMPARE(stage.view.flow()->scale().high, 3.02f);
  }

  void scaleOfWeakScoresStaysHonest() {
    Stage stage;
    stage.run();
    AttributeResult weak = result(3);
    for (Source& source : weak.sources) source.score = *source.score / 10;
    stage.view.setResult(weak);
    QCOMPARE(stage.view.flow()->scale().high, std::numbers::ln10_v<float>);
  }

  void hoveringLinksBothWays() {
    Stage stage;
    stage.run();
    stage.view.setResult(result(3));
    auto* table = child<QTableView>(&stage.view, "attribution.table");
    const auto& tokens = stage.view.flow()->tokens();
    int inSecond = -1;
    for (size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i].group == 1) inSecond = static_cast<int>(i);
    QTest::mouseMove(stage.view.flow()->viewport(), stage.view.flow()->tokenRect(inSecond).center());
    QTRY_COMPARE(table->currentIndex().data(SourceModel::SourceRole).toInt(), 1);
    table->setCurrentIndex(stage.view.model()->index(1, 0));   // the cat
    QCOMPARE(table->currentIndex().data(SourceModel::SourceRole).toInt(), 0);
  }

  void filesHoldEverything() {
    SourceModel model;
    model.setResult(result(2));
    const QByteArray csv = model.toCsv();
    QCOMPARE(csv.count("\r\n"), 4);
    QVERIFY(csv.contains("1,13,31,3.02,\"The d\xc3\xb6g ran fast.\""));
    const QJsonObject json = QJsonDocument::fromJson(model.toJson(result(2))).object();
    const QJsonArray sources = json.value(QStringLiteral("sources")).toArray();
    QCOMPARE(sources.size(), 3);
    QVERIFY(sources[2].toObject().value(QStringLiteral("score")).isNull());
    QCOMPARE(json.value(QStringLiteral("complete")).toBool(), false);
    Stage stage;
    QVERIFY(!child<QToolButton>(&stage.view, "attribution.exportTable")->isEnabled());
    stage.run();
    stage.view.setResult(result(3));
    QSignalSpy picture(&stage.view, &AttributionView::exportPictureRequested);
    child<QToolButton>(&stage.view, "attribution.exportPicture")->click();
    QCOMPARE(picture.count(), 1);
    QVERIFY(!picture.first().first().value<QPixmap>().isNull());
    QCOMPARE(winnow::testing::unnamedFocusable(&stage.view).join(QLatin1Char(10)), QString());
  }

  void aStoredAttributionComesBack() {
    storage::AttributionRecord record;
    record.context = kContext;
    record.question = "Who ran?";
    record.response = "the dog";
    record.noiseFloor = 0.05;
    record.complete = true;
    for (const Source& source : result(3).sources)
      record.sources.push_back({source.id, source.start, source.end, source.text, source.score, {}});
    AttributionView view;
    view.showStored(record);
    QCOMPARE(view.flow()->text().toStdString(), kContext);
    QCOMPARE(view.model()->rowCount(), 3);
    QVERIFY(child<QLabel>(&view, "attribution.answer")->text().contains(QStringLiteral("the dog")));
  }
};

WINNOW_TEST_MAIN(AttributionTest)
#include "attribution.moc"
