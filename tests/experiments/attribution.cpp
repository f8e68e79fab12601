// SPDX-License-Identifier: GPL-3.0-or-later
// Attributions as experiments: where sources come from, what a session keeps, going on after a stop, two sides, sets of questions.
#include <QFile>
#include <QTemporaryDir>
#include <QTest>
#include <algorithm>

#include "experiments/attribution_record.h"
#include "experiments/chart_data.h"
#include "experiments/context_file.h"
#include "experiments/jobs.h"
#include "experiments/plan_runner.h"

using namespace winnow;

namespace {

const char* const kStories = WINNOW_SHARED_DATA "/models/stories260K-f32.gguf";

bool write(const QString& path, const QByteArray& bytes) {
  QFile file(path);
  return file.open(QIODevice::WriteOnly) && file.write(bytes) == bytes.size();
}

template <class T>
T take(Result<T> result) {
  if (!result) qFatal("%s", result.error().message.c_str());
  return std::move(*result);
}

JobContext contextOf(const QString& session) {
  JobContext context;
  context.engine = take(Engine::create(take(Model::open(kStories)), EngineOptions{}));
  auto file = storage::SessionFile::open(session.toStdString(), storage::SessionFile::Mode::openOrCreate);
  if (!file) qFatal("%s", file.error().message.c_str());
  context.file = *file;
  return context;
}

AttributeSpec spec() {
  AttributeSpec s;
  s.context = QStringLiteral("Lily had a red ball. Tom had a blue car. They went to the park. A dog came. The dog took the ball.");
  s.question = QStringLiteral("Tom was sad. He said, \"The dog took the");
  s.response = QStringLiteral(" ball!\"");
  return s;
}

std::vector<std::optional<double>> scores(const AttributeResult& result) {
  std::vector<std::optional<double>> out;
  for (const Source& source : result.sources) out.push_back(source.score);
  return out;
}

}  // namespace

class AttributionTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void init() {
    if (!QFile::exists(QString::fromUtf8(kStories))) QSKIP("shared test data not present");
  }

  void contextsComeFromFilesOfSeveralKinds() {
    QTemporaryDir folder;
    const QString passages = folder.filePath("p.jsonl"), markdown = folder.filePath("m.md");
    QVERIFY(write(passages, "{\"id\":\"a\",\"title\":\"First\",\"text\":\" One. \"}\n\n{\"text\":\"Two.\\n\\nMore.\"}\n"));
    QVERIFY(write(markdown, "# A\nOne.\n\n# B\nTwo.\n"));
    const ContextText joined = take(readContext(passages));
    QCOMPARE(joined.text, std::string("One.\n\nTwo.\n\nMore."));
    QCOMPARE(joined.documents.size(), size_t{2});
    QVERIFY(joined.documents[0].title == "First" && joined.documents[1].start == 6 && joined.documents[1].end == 17);
    QCOMPARE(splitDocuments(joined.text, joined.documents).size(), size_t{2});
    const ContextText plain = take(readContext(markdown));
    QVERIFY(plain.documents.empty());
    QCOMPARE(splitDocuments(plain.text, plain.documents).size(), size_t{2});
    for (const auto& [bytes, says] : {std::pair<const char*, const char*>{"{\"text\":\"a\"}\n{\"txt\":\"b\"}\n", "line 2"}, {"[1]\n", "not an object"}, {"{\"text\":", "no JSON"}}) {
      QVERIFY(write(passages, bytes));
      const auto refused = readPassages(passages);
      QVERIFY(!refused);
      QVERIFY2(refused.error().message.find(says) != std::string::npos, refused.error().message.c_str());
      QCOMPARE(refused.error().code, ErrorCode::badInput);
    }
    QVERIFY(!readContext(folder.path() + QStringLiteral("/none.jsonl")));
    QVERIFY(!readContext(folder.path()));
  }

  void passagesThatDoNotFitAreDroppedAndCounted() {
    QTemporaryDir folder;
    const QString set = folder.filePath("set.jsonl");
    QByteArray line = "{\"question_text\":\"Who?\",\"question_id\":\"q\",\"contexts\":[";
    for (int i = 0; i < 8; ++i)
      line += QByteArray(i > 0 ? "," : "") + "{\"paragraph_text\":\"The cat number " + QByteArray::number(i) + " sat on the mat and looked at the big red ball.\",\"is_supporting\":" + (i == 6 ? "true" : "false") + "}";
    QVERIFY(write(set, line + "]}\n"));
    AttributeSpec s;
    s.dataPath = set;
    s.item = 0;
    s.responseTokens = 8;
    const auto engine = take(Engine::create(take(Model::open(kStories)), EngineOptions{}));
    const AttributeQuestion all = take(attributeQuestion(s, *engine->tokenizer(), 2000)), some = take(attributeQuestion(s, *engine->tokenizer(), 130));
    QCOMPARE(all.passages, 8);
    QCOMPARE(all.dropped, 0);
    QCOMPARE(all.supporting, std::vector<int>{6});
    QVERIFY(some.dropped > 0 && some.passages == 8 && some.supporting.size() == 1);
    QVERIFY(some.request.context.find("number 6") != std::string::npos && some.request.context.find("number 0") != std::string::npos);
    QVERIFY(engine->tokenizer()->encode(attributionPrompt(some.request.context, some.request.question), true).size() <= 130 - 8);
    const auto none = attributeQuestion(s, *engine->tokenizer(), 20);
    QVERIFY(!none && none.error().message.find("do not fit") != std::string::npos);
    s.item = 1;
    QVERIFY(!attributeQuestion(s, *engine->tokenizer(), 2000));
  }

  void aRunThatWasStoppedGoesOn() {
    QTemporaryDir folder;
    JobContext context = contextOf(folder.filePath("s.winnow"));
    const AttributeResult whole = take(attributeRun(context, Config(), spec()));
    QVERIFY(whole.complete);
    AttributeSpec again = spec();
    again.resume = kResumeLatest;
    QVERIFY(!attributeRun(context, Config(), again));  // nothing was left unfinished
    std::stop_source stop;
    context.progress.stop = stop.get_token();
    AttributeSpec slow = spec();
    slow.method = QStringLiteral("loo");  // one forward after the other
    const AttributeResult halted = take(attributeRun(context, Config(), slow, [&](const AttributeResult& partial) {
      if (partial.forwards >= 3) stop.request_stop();
    }));
    QVERIFY(!halted.complete && halted.forwards < whole.forwards);
    context.progress.stop = {};
    slow.resume = kResumeLatest;
    const AttributeResult resumed = take(attributeRun(context, Config(), slow));
    QVERIFY(resumed.complete);
    QCOMPARE(resumed.knownForwards, halted.forwards);
    QCOMPARE(resumed.forwards + resumed.knownForwards, whole.forwards);
    for (size_t i = 0; i < whole.sources.size(); ++i) QVERIFY(std::fabs(*resumed.sources[i].score - *whole.sources[i].score) < 1e-4);
    const auto other = attributeRun(context, take(Config().parsed("weights.bits", "4")), slow);  // another configuration: no scores are mixed
    QVERIFY(!other && other.error().message.find("configuration") != std::string::npos);
  }

  void aStoredAttributionIsWhole() {
    QTemporaryDir folder;
    JobContext context = contextOf(folder.filePath("s.winnow"));
    storage::Id run = -1;
    context.onRun = [&](storage::Id id) { run = id; };
    for (const char* method : {"attribot", "shapley", "contextcite"}) {
      AttributeSpec s = spec();
      s.method = QString::fromLatin1(method);
      const AttributeResult result = take(attributeRun(context, Config(), s));
      QVERIFY(context.file->flush());
      const auto record = **context.file->attribution(run);
      QVERIFY(record.complete && record.responseTokens == result.responseTokens && record.parameterTokens == result.parameterTokens);
      const AttributeResult back = attributionResult(record, *context.file->outcomes(run));
      QVERIFY(scores(back) == scores(result));
      QCOMPARE(back.outcomes.size(), result.outcomes.size());
      QCOMPARE(back.responseNll.size(), result.responseNll.size());
      // Another part of the response, from the file alone.
      const AttributeResult part = take(attributeSpan(back, {ResponseSpan::Unit::tokens, 0, 1})), direct = take(attributeSpan(result, {ResponseSpan::Unit::tokens, 0, 1}));
      QVERIFY(scores(part) == scores(direct));
    }
  }

  void twoConfigurationsAreCompared() {
    QTemporaryDir folder;
    JobContext context = contextOf(folder.filePath("s.winnow"));
    std::vector<storage::Id> runs;
    context.onRun = [&](storage::Id id) { runs.push_back(id); };
    AttributionDifferenceSpec both;
    both.spec = spec();
    both.spec.response.clear();
    both.spec.responseTokens = 6;
    both.b = take(Config().parsed("weights.bits", "2"));
    int sides[2] = {0, 0};
    const AttributionDifference difference = take(attributeDifferenceRun(context, both, [&](const AttributeResult&, bool second) { ++sides[second ? 1 : 0]; }));
    QVERIFY(sides[0] > 1 && sides[1] > 1 && runs.size() == 2);
    QCOMPARE(difference.b.responseTokens, difference.a.responseTokens);  // what the first answered
    bool any = false;
    for (const auto& row : difference.rows) any |= row.difference && std::fabs(*row.difference) > row.noise;
    QVERIFY(any && !difference.shares);
    QVERIFY(context.file->flush());
    QCOMPARE((**context.file->attribution(runs[1])).comparedWith, std::optional<storage::Id>(runs[0]));
    const Chart chart = take(buildChart(*context.file, QStringLiteral("attribution"), runs));
    QCOMPARE(chart.panels.size(), size_t{3});
    both.methodB = QStringLiteral("attention");
    both.b = both.a;
    const AttributionDifference mass = take(attributeDifferenceRun(context, both));
    QVERIFY(mass.shares && mass.b.method == "attention" && mass.a.method == "attribot");
  }

  void setsOfQuestionsMakeAParetoChart() {
    QTemporaryDir folder;
    const QString set = folder.filePath("set.jsonl");
    QByteArray lines;
    for (const char* colour : {"red", "blue", "green"})
      lines += QByteArray("{\"question\":\"Lily played with her\",\"response\":\" ball.\",\"context\":[{\"text\":\"Lily had a ") + colour +
               " ball. She liked it.\",\"supporting\":true},{\"text\":\"Tom had a car. It was big.\"},{\"text\":\"The sun was hot. They ran.\"}]}\n";
    QVERIFY(write(set, lines));
    const QByteArray data = QByteArray("\"kind\":\"attribute\",\"data\":\"") + set.toUtf8() + "\",\"limit\":2";
    const auto plan = PlanFile::parse(QByteArray("{\"winnow_plan\":1,\"model\":\"") + kStories + "\",\"experiments\":[{" + data + ",\"method\":\"loo\"},{" + data +
                                          ",\"tricks\":\"reuse,hierarchy\",\"keep_paragraphs\":1},{" + data + ",\"tricks\":\"reuse\"}]}",
                                      QStringLiteral("/"));
    QVERIFY2(plan, plan ? "" : plan.error().message.c_str());
    QCOMPARE(plan->points().size(), size_t{6});
    QCOMPARE(plan->points()[3].item, 1);
    auto file = storage::SessionFile::open(folder.filePath("s.winnow").toStdString(), storage::SessionFile::Mode::create);
    QVERIFY(file);
    const auto summary = runPlan(*plan, *file, {}, false, {});
    QVERIFY2(summary && summary->done == 6, summary ? "" : summary.error().message.c_str());
    const Chart chart = take(buildChart(**file, QStringLiteral("attribution-pareto"), {}));
    QCOMPARE(chart.panels.size(), size_t{4});
    QStringList labels;
    for (const ChartSeries& series : chart.panels[0].series)
      for (size_t i = 0; i < series.y.size(); ++i) {
        labels << series.labels[i];
        QVERIFY(series.x[i] > 1 && series.y[i] > 0 && series.y[i] <= 1);
        if (series.labels[i] == QStringLiteral("attribot sentence reuse")) QCOMPARE(series.y[i], 1.0);
      }
    labels.sort();
    QCOMPARE(labels, (QStringList{"attribot sentence reuse", "attribot sentence reuse hierarchy 1"}));
    QVERIFY(chart.notes.join(u' ').contains(QStringLiteral("2 questions of 6.0 sources")));
  }
};

QTEST_GUILESS_MAIN(AttributionTest)
#include "attribution.moc"
