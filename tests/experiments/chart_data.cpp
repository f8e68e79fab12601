// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/chart_data.h"

#include <QJsonDocument>
#include <QJsonObject>
#include <QJsonArray>
#include <QtTest>

#include "experiments/comparison.h"
#include "tests/support/chart_session.h"

using namespace winnow;

namespace {

// A reader of RFC 4180, independent of the writer.
QList<QStringList> parseCsv(const QByteArray& bytes) {
  QList<QStringList> rows(1, QStringList(QString()));
  bool quoted = false;
  const QString text = QString::fromUtf8(bytes);
  for (qsizetype i = 0; i < text.size(); ++i) {
    const QChar c = text[i];
    if (quoted) {
      if (c != u'"') rows.back().back() += c;
      else if (i + 1 < text.size() && text[i + 1] == u'"') rows.back().back() += text[++i];
      else quoted = false;
    } else if (c == u'"') quoted = true;
    else if (c == u',') rows.back() << QString();
    else if (c == u'\n') rows << QStringList(QString());
    else rows.back().back() += c;
  }
  rows.removeLast();
  return rows;
}

Chart build(test::ChartSession& session, const char* name, const std::vector<storage::Id>& ids = {}) {
  auto chart = buildChart(*session.file, QString::fromLatin1(name), ids);
  if (!chart) throw std::runtime_error(chart.error().message);
  return *std::move(chart);
}

}  // namespace

class ChartDataTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void errorsAreSentences() {
    test::ChartSession empty;
    auto none = buildChart(*empty.file, QStringLiteral("latency"), {});
    QVERIFY(!none);
    QCOMPARE(none.error().code, ErrorCode::badInput);
    QVERIFY(QString::fromStdString(none.error().message).contains(QStringLiteral("no finished run")));
    auto unknown = buildChart(*empty.file, QStringLiteral("latncy"), {});
    QCOMPARE(unknown.error().code, ErrorCode::usage);
    QVERIFY(unknown.error().message.find("pareto") != std::string::npos);
    empty.addEvaluate("a", 16, 2);
    auto missing = buildChart(*empty.file, QStringLiteral("perplexity"), {99});
    QCOMPARE(missing.error().code, ErrorCode::usage);
    QVERIFY(missing.error().message.find("99") != std::string::npos);
    QCOMPARE(buildChart(*empty.file, QStringLiteral("kv"), {}).error().code, ErrorCode::badInput);
    QCOMPARE(buildChart(*empty.file, QStringLiteral("pareto"), {}).error().code, ErrorCode::badInput);
  }

  void latencyLeavesThePrefillOut() {
    test::ChartSession session;
    const storage::Id id = session.addGenerate("story", 8, 5, 100, 30);
    const Chart chart = build(session, "latency");
    QCOMPARE(chart.panels.size(), size_t{1});
    const ChartSeries& s = chart.panels[0].series.at(0);
    QCOMPARE(s.x.size(), size_t{100});
    QCOMPARE(s.x.front(), 30.0);
    for (const double ms : s.y) QVERIFY2(ms >= 5 && ms < 10, qPrintable(QString::number(ms)));
    QVERIFY(chart.caption.contains(QStringLiteral("Prefill apart: 30 tokens in 120.0 ms")));
    QVERIFY(chart.caption.contains(QStringLiteral("story (#%1)").arg(id)));
    QVERIFY(chart.caption.contains(QStringLiteral("CPU: 2 threads, avx512")));
    QCOMPARE(chart.panels[0].markers.size(), size_t{2});
    QCOMPARE(chart.panels[0].markers[0].x, 80.0);
    QCOMPARE(chart.panels[0].markers[0].label, QStringLiteral("kv.budget 1 → 200"));
  }

  void memoryOfOneRunIsStackedAndOfSeveralCompared() {
    test::ChartSession session;
    session.addGenerate("a", 8, 5);
    session.addGenerate("b", 4, 4);
    const Chart one = build(session, "memory", {session.generates[0]});
    QCOMPARE(one.panels[0].kind, Chart::Kind::stackedArea);
    QCOMPARE(one.panels[0].series.size(), size_t{3});
    QCOMPARE(one.panels[0].series[0].name, QStringLiteral("weights"));
    QCOMPARE(one.panels[0].series[0].y.front(), 8 * 900'000.0);
    const Chart two = build(session, "memory");
    QCOMPARE(two.panels[0].kind, Chart::Kind::bars);
    QCOMPARE(two.panels[0].x.categories, (QStringList{QStringLiteral("a"), QStringLiteral("b")}));
    double sum = 0;
    for (const ChartSeries& s : two.panels[0].series) sum += s.y[0];
    QVERIFY(sum > 8 * 900'000.0 + (3 << 20));
  }

  void perplexityIsExponentiatedOnce() {
    test::ChartSession session;
    session.addEvaluate("fine", 16, 1.62);
    session.addEvaluate("coarse", 2, 2.9);
    const Chart chart = build(session, "perplexity");
    double nll = 0;
    for (int w = 0; w < 16; ++w) nll += 1.62 + 0.05 * std::sin(w);
    const ChartSeries& bars = chart.panels[0].series[0];
    QCOMPARE(bars.y[0], std::exp(nll / 16));
    QVERIFY(bars.low[0] < bars.y[0] && bars.y[0] < bars.high[0]);
    const ChartSeries& running = chart.panels[1].series[0];
    QCOMPARE(running.y.back(), bars.y[0]);
    QCOMPARE(running.y.front(), std::exp(1.62));
    QVERIFY(running.high.front() - running.low.front() > running.high.back() - running.low.back());
  }

  void runsOfOneConfigurationShareARow() {
    test::ChartSession session;
    session.fill();
    std::vector<storage::Id> ids = session.evaluations;
    ids.insert(ids.end(), session.benches.begin(), session.benches.end());
    const Chart chart = build(session, "comparison", ids);
    QCOMPARE(chart.panels.size(), size_t{3});
    QCOMPARE(chart.panels[0].x.categories,
             (QStringList{QStringLiteral("defaults"), QStringLiteral("weights.bits 8"), QStringLiteral("weights.bits 4"), QStringLiteral("weights.bits 3"), QStringLiteral("weights.bits 2")}));
    for (const Chart::Panel& panel : chart.panels)
      for (const ChartSeries& s : panel.series)
        for (const double y : s.y) QVERIFY(std::isfinite(y));
    QVERIFY(chart.notes.isEmpty());
  }

  void paretoFrontierAgainstBruteForce() {
    test::ChartSession session;
    session.fill();
    const Chart chart = build(session, "pareto");
    std::vector<std::tuple<double, double, bool>> points;
    for (size_t s = 0; s < chart.panels[0].series.size(); ++s)
      for (size_t i = 0; i < chart.panels[0].series[s].x.size(); ++i) points.emplace_back(chart.panels[0].series[s].x[i], chart.panels[0].series[s].y[i], s == 0);
    QCOMPARE(points.size(), size_t{5});
    for (const auto& [x, y, frontier] : points) {
      bool beaten = false;
      for (const auto& [ox, oy, other] : points) beaten |= ox <= x && oy <= y && (ox < x || oy < y);
      QCOMPARE(frontier, !beaten);
    }
    QVERIFY(std::any_of(points.begin(), points.end(), [](const auto& p) { return !std::get<2>(p); }));
  }

  void differencesAreNotedAndNotCompared() {
    test::ChartSession session;
    session.addEvaluate("here", 16, 1.6);
    storage::NewRun other = test::ChartSession::describe(storage::RunKind::evaluate, "elsewhere", 16);
    other.protocol = "hf-exact";
    other.corpusName = "another text";
    other.corpusSha256 = std::string(64, 'c');
    const storage::Id id = *session.file->beginRun(other);
    session.file->addWindows(id, {{0, 0, 128, 200, 400, 0, 0}, {1, 128, 128, 200, 400, 0, 0}});
    session.finish(id, {});
    const Chart chart = build(session, "comparison");
    QCOMPARE(chart.notes.size(), 1);
    QVERIFY(chart.notes[0].contains(QStringLiteral("Perplexity is not comparable")));
    const auto table = compareRuns(*session.file, {session.evaluations[0], id});
    QVERIFY(table.ok());
    QCOMPARE(table->rows[1].perplexity.verdict, Verdict::notComparable);
    QCOMPARE(table->rows[1].perplexity.words, QStringLiteral("not comparable: protocol"));
  }

  void comparisonFindsWhatIsThereAndNothingElse() {
    test::ChartSession session;
    session.addGenerate("base", 16, 6.0, 300);
    session.addGenerate("same", 16, 6.0, 300);
    session.addGenerate("faster", 4, 3.0, 300);
    session.addEvaluate("base ppl", 16, 1.62);
    session.addEvaluate("same ppl", 8, 1.6205);
    session.addEvaluate("worse ppl", 2, 2.4);
    const auto time = compareRuns(*session.file, session.generates);
    QVERIFY(time.ok());
    QVERIFY(time->rows[0].baseline);
    QCOMPARE(time->rows[1].latency.verdict, Verdict::withinNoise);
    QCOMPARE(time->rows[2].latency.words, QStringLiteral("faster"));
    QCOMPARE(time->rows[2].memory.words, QStringLiteral("less"));
    const auto quality = compareRuns(*session.file, session.evaluations);
    QCOMPARE(quality->rows[1].perplexity.words, QStringLiteral("within noise"));
    QCOMPARE(quality->rows[2].perplexity.words, QStringLiteral("worse"));
    const auto turned = compareRuns(*session.file, session.evaluations, session.evaluations[2]);
    QVERIFY(turned->rows[2].baseline);
    QCOMPARE(turned->rows[0].perplexity.words, QStringLiteral("better"));
  }

  void attributionKeepsDocumentOrder() {
    test::ChartSession session;
    session.addAttribution();
    const Chart chart = build(session, "attribution");
    QCOMPARE(chart.panels[0].kind, Chart::Kind::attribution);
    QCOMPARE(chart.panels[0].series[0].y[2], 4.87);
    QVERIFY(chart.panels[0].series[0].labels[2].contains(QStringLiteral("red ball")));
    QCOMPARE(chart.panels[1].cells.size(), size_t{7});
    QCOMPARE(chart.panels[1].cells[0].size(), size_t{12});
  }

  void attributionParetoComparesWithTheExactOne() {
    test::ChartSession session;
    session.addAttribution();
    const auto alone = buildChart(*session.file, QStringLiteral("attribution-pareto"), {});
    QVERIFY(!alone && alone.error().message.find("exactly") != std::string::npos);
    session.addApproximation();
    const Chart chart = build(session, "attribution-pareto");
    QCOMPARE(chart.panels.size(), size_t{4});
    for (const Chart::Panel& panel : chart.panels) QCOMPARE(panel.series[0].y.size(), size_t{1});
    QCOMPARE(chart.panels[0].series[0].x[0], 20.0);
    QCOMPARE(chart.panels[0].series[0].y[0], 1.0);   // the outlier comes first
    QCOMPARE(chart.panels[1].series[0].x[0], 5.0);
    QCOMPARE(chart.panels[3].series[0].y[0], 2.0 / 3);  // two of the best three
    QVERIFY(chart.panels[0].series[0].labels[0].contains(QStringLiteral("replace")));
  }

  void cacheFollowsTheEviction() {
    test::ChartSession session;
    session.addGenerate("story", 8, 5, 400, 40);
    const Chart chart = build(session, "kv");
    QCOMPARE(chart.panels.size(), size_t{2});
    QCOMPARE(chart.panels[0].series[0].y[100], 101.0);
    QCOMPARE(chart.panels[0].series[0].y.back(), 200.0);
    QCOMPARE(chart.panels[1].series[0].y.back(), 200.0 * 2048);
  }

  void csvSurvivesRereading() {
    test::ChartSession session;
    session.addEvaluate("commas, \"quotes\"\nand lines", 16, 1.6);
    session.addEvaluate("plain", 2, 2.9);
    const Chart chart = build(session, "perplexity");
    const auto rows = parseCsv(toCsv(chart));
    size_t points = 0;
    for (const Chart::Panel& p : chart.panels)
      for (const ChartSeries& s : p.series) points += s.y.size();
    QCOMPARE(static_cast<size_t>(rows.size()), points + 1);
    for (const QStringList& row : rows) QCOMPARE(row.size(), rows[0].size());
    const auto column = [&](const char* name) { return rows[0].indexOf(QString::fromLatin1(name)); };
    QVERIFY(column("y") > 0);
    QCOMPARE(rows[1][column("category")], QStringLiteral("commas, \"quotes\"\nand lines"));
    QCOMPARE(rows[1][column("y")].toDouble(), chart.panels[0].series[0].y[0]);  // every digit
    QCOMPARE(rows[1][column("low")].toDouble(), chart.panels[0].series[0].low[0]);
  }

  void jsonHoldsEverything() {
    test::ChartSession session;
    session.fill();
    for (const QString& name : chartNames()) {
      auto chart = buildChart(*session.file, name, {});
      if (name == QStringLiteral("attribution-pareto")) {  // no question of this session was attributed twice
        QVERIFY(!chart.ok() && chart.error().message.find("both exactly and by another method") != std::string::npos);
        continue;
      }
      QVERIFY2(chart.ok(), chart.ok() ? "" : chart.error().message.c_str());
      const QJsonObject root = QJsonDocument::fromJson(toJson(*chart)).object();
      QCOMPARE(root[QStringLiteral("winnow_chart")].toInt(), 1);
      QCOMPARE(root[QStringLiteral("name")].toString(), name);
      QCOMPARE(static_cast<size_t>(root[QStringLiteral("panels")].toArray().size()), chart->panels.size());
      for (size_t p = 0; p < chart->panels.size(); ++p) {
        const QJsonObject panel = root[QStringLiteral("panels")].toArray()[static_cast<qsizetype>(p)].toObject();
        QCOMPARE(static_cast<size_t>(panel[QStringLiteral("series")].toArray().size()), chart->panels[p].series.size());
      }
    }
  }

  void retrievalByDepthAndLength() {
    test::ChartSession session;
    session.addRetrieval("streaming", 16, 0.5);
    session.addRetrieval("random", 4, 1);
    QVERIFY(session.file->flush());
    const Chart chart = build(session, "retrieval");
    QCOMPARE(chart.panels.size(), size_t{8});  // two of bars; two maps of the defaults and of each run
    const ChartSeries& shares = chart.panels[0].series[0];
    QCOMPARE(chart.panels[0].x.categories, (QStringList{"defaults", "streaming", "random"}));
    QCOMPARE(shares.y, (std::vector<double>{1, 8.0 / 18, 4.0 / 18}));
    for (size_t i = 0; i < shares.y.size(); ++i) QVERIFY(shares.low[i] < shares.y[i] && shares.y[i] <= shares.high[i] && shares.high[i] <= 1);
    QCOMPARE(chart.panels[1].series[0].y[1], (8 * 0.5 + 10 * 12.0) / 72);
    const Chart::Panel& map = chart.panels[4];
    QCOMPARE(map.y.categories, (QStringList{"0 %", "50 %", "100 %"}));
    QCOMPARE(map.x.categories, (QStringList{"128", "256"}));
    QCOMPARE(map.cells, (std::vector<std::vector<float>>{{0, 0}, {2.0F / 3, 2.0F / 3}, {2.0F / 3, 2.0F / 3}}));
    QCOMPARE(chart.panels[2].cells[0], (std::vector<float>{1, 1}));
    QCOMPARE(chart.panels[5].cells, (std::vector<std::vector<float>>{{3, 3}, {13.0F / 12, 13.0F / 12}, {13.0F / 12, 13.0F / 12}}));
    // An evaluation of that kind is no perplexity.
    QVERIFY(!buildChart(*session.file, QStringLiteral("perplexity"), {}).ok());
  }

  void qualityAndCostByDepth() {
    test::ChartSession session;
    QVERIFY(!buildChart(*session.file, QStringLiteral("depth"), {}).ok());
    session.addEvaluate("plain", 16, 1.6);
    session.addDepths("window", 16, 0.5);
    session.addDepths("streaming", 4, 0.2);
    QVERIFY(session.file->flush());
    const Chart chart = build(session, "depth");
    QCOMPARE(chart.panels.size(), size_t{4});
    const auto names = [](const Chart::Panel& panel) {
      QStringList out;
      for (const ChartSeries& series : panel.series) out << series.name;
      return out;
    };
    QCOMPARE(names(chart.panels[0]), (QStringList{"window", "streaming"}));  // the defaults are at no distance from themselves
    QCOMPARE(chart.panels[0].series[1].x, (std::vector<double>{128, 1024}));
    QCOMPARE(chart.panels[0].series[0].y, (std::vector<double>{0.5, 1}));
    QCOMPARE(names(chart.panels[1]), (QStringList{"defaults", "window", "streaming"}));
    QVERIFY(chart.panels[1].series[0].low.empty() && chart.panels[1].series[1].low.size() == 2);
    QCOMPARE(chart.panels[2].series[0].y, (std::vector<double>{2, 4}));
    QCOMPARE(chart.panels[3].series[1].y, (std::vector<double>{1000, 1000}));
  }

  void whatIsLeftOutIsSaidAndTheBaselineStays() {
    test::ChartSession session;
    for (int i = 0; i < 30; ++i) session.addEvaluate("run " + std::to_string(i), 16, 2 + i * 0.01, 2);
    session.file->setBaseline(session.evaluations[3]);
    QVERIFY(session.file->flush());
    const Chart chart = build(session, "comparison");
    QCOMPARE(chart.panels[0].x.categories.size(), 24);
    QCOMPARE(chart.panels[0].x.categories[0], QStringLiteral("run 3"));
    QCOMPARE(chart.panels[0].x.categories[1], QStringLiteral("run 7"));
    QCOMPARE(chart.panels[0].x.categories[23], QStringLiteral("run 29"));
    QVERIFY2(chart.notes.join(u' ').contains(QStringLiteral("24 of 30")), qPrintable(chart.notes.join(u' ')));
    const Chart all = build(session, "comparison", session.evaluations);
    QCOMPARE(all.panels[0].x.categories.size(), 30);
  }

  void reproducibilityNamesRunsAndMachine() {
    test::ChartSession session;
    session.addGenerate("story", 4, 5);
    const auto rows = build(session, "latency").reproducibility;
    QString all;
    for (const auto& [key, value] : rows) all += key + u' ' + value + u'\n';
    for (const char* needed : {"charts.winnow", "weights.bits=4", "Test CPU", "seed 0", "Winnow 0.1.0"}) QVERIFY2(all.contains(QLatin1String(needed)), needed);
  }
};

QTEST_GUILESS_MAIN(ChartDataTest)
#include "chart_data.moc"
