// SPDX-License-Identifier: GPL-3.0-or-later
// The run table: columns that choose themselves, differences with their doubt, filter, selection, 10 000 runs.
#include <QAbstractItemModelTester>
#include <QElapsedTimer>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QSignalSpy>
#include <QTableView>

#include "panels/runs/runs_view.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using storage::Metric;
using storage::RunSummary;
using winnow::testing::child;

namespace {

Metric metric(const char* name, const char* unit, double value, double half, const char* better = "lower") {
  Metric m;
  m.name = name;
  m.unit = unit;
  m.better = better;
  m.value = value;
  m.n = 20;
  if (half > 0) {
    m.ciLow = value - half;
    m.ciHigh = value + half;
  }
  return m;
}

RunSummary run(storage::Id id, const char* name, const char* bits, double ms, double ppl) {
  RunSummary r;
  r.id = id;
  r.name = name;
  r.kind = storage::RunKind::evaluate;
  r.status = storage::RunStatus::done;
  r.model = "small";
  r.modelPath = "/models/small.gguf";
  r.device = "cpu";
  r.protocol = "llama c=256";
  r.corpus = "sample";
  r.divergenceJson = "[]";
  r.startedUs = 1700000000000000 + id * 1000000;
  if (bits) r.effective["weights.bits"] = bits;
  r.effective["kv.policy"] = "full";
  r.metrics["ms_per_token"] = metric("ms_per_token", "ms", ms, 0.2);
  r.metrics["perplexity"] = metric("perplexity", "", ppl, 0.05);
  return r;
}

std::vector<RunSummary> some() {
  std::vector<RunSummary> runs{run(3, "four bits", "4", 12.0, 6.9), run(2, "eight bits", "8", 20.1, 6.62),
                               run(1, "reference", nullptr, 20.0, 6.61)};
  runs[2].baseline = true;
  return runs;
}

QString cell(const RunModel& model, storage::Id id, RunModel::Column::Kind kind, const char* key = "") {
  for (size_t c = 0; c < model.columns().size(); ++c)
    if (model.columns()[c].kind == kind && (model.columns()[c].key == QString::fromLatin1(key)))
      return model.index(model.rowOf(id), static_cast<int>(c)).data().toString();
  return QStringLiteral("no such column");
}

}  // namespace

class RunsTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void modelKeepsTheRules() {
    RunModel model;
    RunFilter filter;
    filter.setSourceModel(&model);
    QAbstractItemModelTester a(&model, QAbstractItemModelTester::FailureReportingMode::Fatal);
    QAbstractItemModelTester b(&filter, QAbstractItemModelTester::FailureReportingMode::Fatal);
    model.setRuns(some());
    filter.setQuery(parseRunQuery(QStringLiteral("four")));
    QCOMPARE(filter.rowCount(), 1);
    model.setRuns({});
    model.setRuns(some());
    filter.setQuery({});
    filter.sort(1);
    QCOMPARE(filter.rowCount(), 3);
  }

  void columnsAreWhatDiffers() {
    RunModel model;
    model.setRuns(some());
    using Kind = RunModel::Column::Kind;
    QCOMPARE(cell(model, 3, Kind::knob, "weights.bits"), QStringLiteral("4"));
    QCOMPARE(cell(model, 1, Kind::knob, "weights.bits"), QStringLiteral("16"));   // a default is a value too
    QCOMPARE(cell(model, 1, Kind::knob, "kv.policy"), QStringLiteral("no such column"));  // the same everywhere
    QVERIFY(cell(model, 1, Kind::metric, "perplexity").contains(QStringLiteral("6.61")));
    QCOMPARE(cell(model, 1, Kind::metric, "kld_mean"), QStringLiteral("no such column"));
  }

  void differencesCarryTheirDoubt() {
    RunModel model;
    model.setRuns(some());
    using Kind = RunModel::Column::Kind;
    QVERIFY(cell(model, 3, Kind::delta, "ms_per_token").contains(QStringLiteral("better")));
    QVERIFY(cell(model, 3, Kind::delta, "perplexity").contains(QStringLiteral("worse")));
    QCOMPARE(cell(model, 2, Kind::delta, "ms_per_token"), QStringLiteral("within noise"));
    QCOMPARE(cell(model, 1, Kind::delta, "ms_per_token"), QStringLiteral("base"));
    auto runs = some();
    runs[0].device = "cuda";
    runs[0].corpus = "another";
    model.setRuns(runs);
    QVERIFY(cell(model, 3, Kind::delta, "ms_per_token").contains(QStringLiteral("other device")));
    QVERIFY(cell(model, 3, Kind::delta, "perplexity").contains(QStringLiteral("other text")));
  }

  void statusTellsMoreThanDone() {
    auto runs = some();
    runs[0].status = storage::RunStatus::interrupted;
    runs[0].tokens = 88;
    runs[1].divergenceJson = R"([{"knob":"weights.bits"}])";
    RunModel model;
    model.setRuns(runs);
    using Kind = RunModel::Column::Kind;
    QCOMPARE(cell(model, 3, Kind::status), QStringLiteral("interrupted after 88 tokens"));
    QCOMPARE(cell(model, 2, Kind::status), QStringLiteral("done, adjusted"));
  }

  void filters_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<int>("rows");
    QTest::newRow("nothing") << QString() << 3;
    QTest::newRow("word") << QStringLiteral("bits") << 2;
    QTest::newRow("name") << QStringLiteral("\"eight bits\"") << 1;
    QTest::newRow("knob") << QStringLiteral("weights.bits=4") << 1;
    QTest::newRow("default knob") << QStringLiteral("weights.bits = 16") << 1;
    QTest::newRow("metric") << QStringLiteral("perplexity<6.7") << 2;
    QTest::newRow("both") << QStringLiteral("perplexity < 6.7 and weights.bits=8") << 1;
    QTest::newRow("not") << QStringLiteral("weights.bits!=16") << 2;
    QTest::newRow("field") << QStringLiteral("status=done kind=evaluate") << 3;
    QTest::newRow("quoted") << QStringLiteral("name=\"four bits\"") << 1;
    QTest::newRow("none") << QStringLiteral("perplexity>100") << 0;
  }
  void filters() {
    QFETCH(QString, text);
    QFETCH(int, rows);
    RunModel model;
    RunFilter filter;
    filter.setSourceModel(&model);
    model.setRuns(some());
    const RunQuery query = parseRunQuery(text);
    QCOMPARE(query.error, QString());
    filter.setQuery(query);
    QCOMPARE(filter.rowCount(), rows);
  }

  void aWrongFilterSaysWhere() {
    const RunQuery query = parseRunQuery(QStringLiteral("four Kv.Nothing=3"));
    QVERIFY(query.error.contains(QStringLiteral("Kv.Nothing")));
    QCOMPARE(query.errorAt, 5);
    QVERIFY(parseRunQuery(QStringLiteral("perplexity<")).error.contains(QStringLiteral("value")));
    RunsView view;
    view.setRuns(some(), false);
    child<QLineEdit>(&view, "runs.filter")->setText(QStringLiteral("four"));
    child<QLineEdit>(&view, "runs.filter")->setText(QStringLiteral("four wrong.key=1"));
    QCOMPARE(view.filter()->rowCount(), 1);   // the last understood one stays
    QVERIFY(!child<QLabel>(&view, "runs.problem")->isHidden());
  }

  void theViewAsksBySignals() {
    RunsView view;
    view.resize(1000, 500);
    view.show();
    view.setRuns(some(), false);
    QSignalSpy opened(&view, &RunsView::openRequested), compared(&view, &RunsView::compareRequested),
        based(&view, &RunsView::baselineRequested), noted(&view, &RunsView::notesRequested), renamed(&view, &RunsView::renameRequested),
        deleted(&view, &RunsView::deleteRequested);
    QVERIFY(!child<QPushButton>(&view, "runs.compare")->isEnabled());
    view.select(2);
    child<QPushButton>(&view, "runs.open")->click();
    QCOMPARE(opened.last().first().toLongLong(), 2);
    child<QPushButton>(&view, "runs.baseline")->click();
    QCOMPARE(based.last().first().toLongLong(), 2);
    view.select(1);
    QCOMPARE(child<QPushButton>(&view, "runs.baseline")->text(), QStringLiteral("Clear baseline"));
    child<QPushButton>(&view, "runs.baseline")->click();
    QCOMPARE(based.last().first().toLongLong(), -1);
    view.table()->selectAll();
    child<QPushButton>(&view, "runs.compare")->click();
    QCOMPARE(compared.last().first().value<std::vector<qint64>>().size(), size_t{3});
    view.select(3);
    auto* notes = child<QLineEdit>(&view, "runs.notes");
    notes->setFocus();
    QTest::keyClicks(notes, QStringLiteral("slow disk"));
    QTest::keyClick(notes, Qt::Key_Return);
    QCOMPARE(noted.last().at(1).toString(), QStringLiteral("slow disk"));
    QVERIFY(view.model()->setData(view.model()->index(0, 1), QStringLiteral("renamed"), Qt::EditRole));
    QCOMPARE(renamed.last().at(1).toString(), QStringLiteral("renamed"));
    child<QPushButton>(&view, "runs.delete")->click();
    QCOMPARE(deleted.count(), 1);
    QCOMPARE(winnow::testing::unnamedFocusable(&view).join(QLatin1Char(10)), QString());
    // A refresh keeps the selection.
    view.setRuns(some(), false);
    QCOMPARE(view.selected(), std::vector<qint64>{3});
    view.setRuns(some(), true);
    QVERIFY(!child<QPushButton>(&view, "runs.delete")->isEnabled());
    QVERIFY(!(view.model()->flags(view.model()->index(0, 1)) & Qt::ItemIsEditable));
  }

  void tenThousandRuns() {
    std::vector<RunSummary> runs;
    const std::string bits[] = {"2", "3", "4", "8"};
    for (int i = 0; i < 10000; ++i) runs.push_back(run(i + 1, "r", bits[i % 4].c_str(), 10 + i % 7, 6 + i % 11));
    runs[5].baseline = true;
    RunsView view;
    view.resize(1000, 500);
    view.show();
    QElapsedTimer clock;
    clock.start();
    view.setRuns(std::move(runs), false);
    view.grab();
    const qint64 shown = clock.restart();
    child<QLineEdit>(&view, "runs.filter")->setText(QStringLiteral("weights.bits=4 perplexity<7"));
    const qint64 filtered = clock.elapsed();
    QVERIFY2(shown < 2000 && filtered < 1500, qPrintable(QStringLiteral("shown in %1 ms, filtered in %2 ms").arg(shown).arg(filtered)));
    QVERIFY(view.filter()->rowCount() > 0 && view.filter()->rowCount() < 2500);
  }
};

WINNOW_TEST_MAIN(RunsTest)
#include "runs.moc"
