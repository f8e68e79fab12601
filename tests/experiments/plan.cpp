// SPDX-License-Identifier: GPL-3.0-or-later
// Plans: what they accept, what they refuse and where, how they are run, stopped, killed and gone on with.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include "experiments/model_source.h"
#include "experiments/plan_runner.h"

using namespace winnow;

namespace {

const char* const kStories = WINNOW_SHARED_DATA "/models/stories260K-f32.gguf";
const char* const kText = WINNOW_SHARED_DATA "/corpora/tinystories_60k.txt";

QByteArray planJson(const QByteArray& rest, const char* model = kStories) {
  return QByteArray(R"({"winnow_plan":1,"model":")") + model + R"(",)" + rest + "}";
}
const QByteArray kEvaluate = QByteArray(R"({"kind":"evaluate","text":")") + kText + R"(","context":64,"chunks":2})";

PlanFile planOf(const QByteArray& json) {
  auto plan = PlanFile::parse(json, QStringLiteral("/"));
  if (!plan) qFatal("%s", plan.error().message.c_str());
  plan->name = QStringLiteral("test");
  return *plan;
}

std::shared_ptr<storage::SessionFile> openFile(const QString& path) {
  auto file = storage::SessionFile::open(path.toStdString(), storage::SessionFile::Mode::openOrCreate);
  if (!file) qFatal("%s", file.error().message.c_str());
  return *file;
}

}  // namespace

class PlanTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void init() {
    if (!QFile::exists(QString::fromUtf8(kStories))) QSKIP("shared test data not present");
  }

  void pointsAreTheProductWithRepeatsOutermost() {
    const PlanFile plan = planOf(planJson(R"("set":{"kv.interval":4},"axes":{"weights.bits":[16,4],"kv.budget":[1.0,0.5]},"repeats":2,"experiments":[)" + kEvaluate + R"(,{"kind":"bench","n":8}])"));
    const auto points = plan.points();
    QCOMPARE(points.size(), size_t{2 * 2 * 2 * 2});
    for (size_t i = 0; i < points.size(); ++i) {
      QCOMPARE(points[i].repeat, i < 8 ? 0 : 1);
      QCOMPARE(points[i].experiment, static_cast<int>(i % 2));
      QCOMPARE(points[i].config.integer("kv.interval"), int64_t{4});
      QVERIFY(points[i].config == points[(i + 8) % 16].config);
    }
    const auto& bench = std::get<BenchSpec>(plan.experiments[1]);
    QCOMPARE(bench.generate, std::vector<int>{8});
    QCOMPARE(bench.prompt, std::vector<int>{512});
    const auto& evaluate = std::get<EvaluateSpec>(plan.experiments[0]);
    QCOMPARE(evaluate.context, 64);
    QVERIFY(evaluate.againstBaseline);
    QVERIFY(!evaluate.stepwise);
  }

  void aPlanReadsWhatItWrites() {
    const QByteArray json = planJson(R"("axes":{"prune.ratio":[0.25,0.5]},"experiments":[)" + kEvaluate +
                                     R"(,{"kind":"generate","prompt":"Once","n":5,"temperature":0.5,"seed":9},{"kind":"attribute","context":"/c.txt","question":"Who?","unit":"paragraph"},
                                        {"kind":"bench","p":[64],"n":[8,16],"depth":[0,32],"r":2},
                                        {"kind":"retrieve","task":"pairs","lengths":[64,128],"depths":[0,0.5],"trials":2,"seed":5,"query_aware":true,"against":"none"},
                                        {"kind":"retrieve","data":"/d.jsonl","limit":3}])");
    const PlanFile plan = planOf(json);
    const PlanFile back = planOf(plan.toJson());
    QCOMPARE(back.toJson(), plan.toJson());
    QCOMPARE(back.points().size(), plan.points().size());
    const auto& made = std::get<RetrieveSpec>(back.experiments[4]);
    QVERIFY(made.tasks.task == RetrievalTask::pairs && made.tasks.lengths == (std::vector<int>{64, 128}) && made.tasks.depths == (std::vector<double>{0, 0.5}));
    QVERIFY(made.tasks.trials == 2 && made.tasks.seed == 5 && made.queryAware && !made.againstBaseline);
    const auto& given = std::get<RetrieveSpec>(back.experiments[5]);
    QVERIFY(given.dataPath == QStringLiteral("/d.jsonl") && given.limit == 3 && given.againstBaseline);
    QCOMPARE(experimentKind(back.experiments[5]), QStringLiteral("retrieve"));
  }

  void refusals_data() {
    QTest::addColumn<QByteArray>("json");
    QTest::addColumn<QByteArray>("says");
    QTest::addColumn<int>("code");
    const QByteArray e = R"("experiments":[)" + kEvaluate + "]";
    const auto row = [&](const char* name, const QByteArray& json, const char* says, int code = 2) { QTest::newRow(name) << json << QByteArray(says) << code; };
    row("not JSON", "{", "not JSON", 3);
    row("a list", "[]", "object", 3);
    row("another version", R"({"winnow_plan":2})", "winnow_plan", 3);
    row("no version", "{" + e + "}", "winnow_plan", 3);
    row("unknown key", planJson(R"("exes":{},)" + e), "exes");
    row("unknown knob", planJson(R"("axes":{"weights.bit":[4]},)" + e), "axes.weights.bit[0]");
    row("value out of range", planJson(R"("axes":{"weights.bits":[16,7]},)" + e), "axes.weights.bits[1]");
    row("empty axis", planJson(R"("axes":{"weights.bits":[]},)" + e), "axes.weights.bits");
    row("axis of one value", planJson(R"("axes":{"weights.bits":4},)" + e), "axes.weights.bits");
    row("axes as a list", planJson(R"("axes":[4],)" + e), "axes");
    row("setting out of range", planJson(R"("set":{"prune.ratio":2},)" + e), "set.prune.ratio");
    row("setting null", planJson(R"("set":{"prune.ratio":null},)" + e), "set.prune.ratio");
    row("set as text", planJson(R"("set":"weights.bits=4",)" + e), "set");
    row("nothing to do", planJson(R"("experiments":[])"), "experiments");
    row("experiments as an object", planJson(R"("experiments":{})"), "experiments");
    row("experiment as text", planJson(R"("experiments":["bench"])"), "experiments[0]");
    row("unknown kind", planJson(R"("experiments":[{"kind":"benchmark"}])"), "experiments[0].kind");
    row("unknown key inside", planJson(R"("experiments":[{"kind":"bench","tokens":4}])"), "experiments[0].tokens");
    row("no text", planJson(R"("experiments":[{"kind":"evaluate"}])"), "experiments[0].text");
    row("unknown mode", planJson(R"("experiments":[{"kind":"evaluate","text":"a","mode":"lama"}])"), "experiments[0].mode");
    row("fractional context", planJson(R"("experiments":[{"kind":"evaluate","text":"a","context":12.5}])"), "experiments[0].context");
    row("depth as text", planJson(R"("experiments":[{"kind":"evaluate","text":"a","depths":["deep"]}])"), "experiments[0].depths");
    row("neither context nor data", planJson(R"("experiments":[{"kind":"attribute","question":"b"}])"), "experiments[0].context");
    row("context and data", planJson(R"("experiments":[{"kind":"attribute","context":"a","data":"c","question":"b"}])"), "experiments[0].data");
    row("unknown unit", planJson(R"("experiments":[{"kind":"attribute","context":"a","question":"b","unit":"word"}])"), "experiments[0].unit");
    row("unknown method", planJson(R"("experiments":[{"kind":"attribute","context":"a","question":"b","method":"shap"}])"), "experiments[0].method");
    row("no prompt", planJson(R"("experiments":[{"kind":"generate"}])"), "experiments[0].prompt");
    row("unknown task", planJson(R"("experiments":[{"kind":"retrieve","task":"hay"}])"), "experiments[0].task");
    row("no lengths", planJson(R"("experiments":[{"kind":"retrieve","lengths":[]}])"), "experiments[0].lengths");
    row("too deep", planJson(R"("experiments":[{"kind":"retrieve","depths":[0,2]}])"), "experiments[0].depths");
    row("text and data", planJson(R"("experiments":[{"kind":"retrieve","text":"a","data":"b"}])"), "experiments[0].text");
    row("no repeats", planJson(R"("repeats":0,)" + e), "repeats");
    row("too many points", planJson(R"("repeats":1000,"axes":{"weights.bits":[16,8,4,3,2],"kv.interval":[1,2,3,4,5,6,7,8],"kv.budget":[1,0.5,0.25]},)" + e), "100 000");
  }
  void refusals() {
    QFETCH(QByteArray, json);
    QFETCH(QByteArray, says);
    QFETCH(int, code);
    const auto plan = PlanFile::parse(json, QStringLiteral("/"));
    QVERIFY(!plan);
    QVERIFY2(plan.error().message.find(says.constData()) != std::string::npos, plan.error().message.c_str());
    QCOMPARE(static_cast<int>(plan.error().code), code);
  }

  void shippedPlansAreReadAndTheirTextsAreThere() {
    for (const char* name : {"demo-sweep", "cache-budget", "kv-bits", "minikv", "pruning", "attribution", "attribution-pareto", "retrieval", "cache-depth"}) {
      const std::string path = findResource(std::string("plans/") + name + ".json");
      const auto plan = PlanFile::read(QString::fromStdString(path));
      QVERIFY2(plan, plan ? "" : plan.error().message.c_str());
      for (const Experiment& experiment : plan->experiments) {
        if (const auto* evaluate = std::get_if<EvaluateSpec>(&experiment)) QVERIFY2(QFile::exists(evaluate->textPath), qPrintable(evaluate->textPath));
        if (const auto* retrieve = std::get_if<RetrieveSpec>(&experiment)) QVERIFY(retrieve->dataPath.isEmpty() || QFile::exists(retrieve->dataPath));
        if (const auto* attribute = std::get_if<AttributeSpec>(&experiment)) {
          const QString& file = attribute->dataPath.isEmpty() ? attribute->contextPath : attribute->dataPath;
          QVERIFY2(QFile::exists(file), qPrintable(file));
        }
      }
    }
  }

  void runsEveryPointOnceAndGoesOn() {
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("s.winnow"));
    const PlanFile plan = planOf(planJson(R"("axes":{"weights.bits":[16,8,4]},"experiments":[)" + kEvaluate + "]"));
    auto file = openFile(path);
    std::stop_source stop;
    Progress progress;
    progress.stop = stop.get_token();
    int finished = 0;
    const auto stopped = runPlan(plan, file, {}, false, progress, [&](const PlanPointState& point) {
      if (point.state == storage::PointState::done && ++finished == 1) stop.request_stop();
    });
    QVERIFY(!stopped);
    QCOMPARE(stopped.error().code, ErrorCode::cancelled);
    QVERIFY(!runPlan(plan, file, {}, false, {}));  // it is there already
    const auto rest = runPlan(plan, file, {}, true, {});
    QVERIFY2(rest, rest ? "" : rest.error().message.c_str());
    QCOMPARE(rest->done, 2);
    QCOMPARE(rest->before, 1);
    const auto nothing = runPlan(plan, file, {}, true, {});
    QVERIFY(nothing);
    QCOMPARE(nothing->done, 0);
    QCOMPARE(nothing->before, 3);
    const auto runs = file->runs();
    QVERIFY(static_cast<bool>(runs));
    QCOMPARE(runs->size(), size_t{3});
    double before = 0;
    for (auto run = runs->rbegin(); run != runs->rend(); ++run) {  // oldest first: 16, 8, 4 bits
      QCOMPARE(run->status, storage::RunStatus::done);
      const double kld = run->metrics.at("kld_mean").value;
      QVERIFY(run == runs->rbegin() ? kld == 0 : kld > before);
      before = kld;
    }
  }

  void aPointTheModelRefusesIsSkippedWithItsReason() {
    QTemporaryDir folder;
    auto file = openFile(folder.filePath(QStringLiteral("s.winnow")));
    const PlanFile plan = planOf(planJson(R"("set":{"share.first":3},"axes":{"share.block":[1,2]},"experiments":[)" + kEvaluate + "]"));
    const auto summary = runPlan(plan, file, {}, false, {});
    QVERIFY2(summary, summary ? "" : summary.error().message.c_str());
    QCOMPARE(summary->skipped + summary->done, 2);
    QVERIFY(summary->skipped >= 1);
    const auto sweeps = file->sweeps();
    QVERIFY(static_cast<bool>(sweeps));
    bool reason = false;
    for (const auto& point : sweeps->front().points) reason |= point.state == storage::PointState::skipped && !point.note.empty();
    QVERIFY(reason);
  }

  // A kill at any moment: the file opens, what was done stays done, the rest is done once.
  void killedPlansGoOn() {
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("s.winnow"));
    const PlanFile plan = planOf(planJson(R"("axes":{"weights.bits":[16,8,6,4,3,2]},"experiments":[)" + kEvaluate + "]"));
    int notes[2];
    QVERIFY(::pipe(notes) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto file = openFile(path);
      static_cast<void>(runPlan(plan, file, {}, false, {}, [&](const PlanPointState& point) {
        if (point.state != storage::PointState::done) return;
        static_cast<void>(file->flush());
        static_cast<void>(!::write(notes[1], "d", 1));
        if (point.ordinal == 2) ::pause();
      }));
      ::_exit(0);
    }
    ::close(notes[1]);
    char mark = 0;
    for (int i = 0; i < 3; ++i) QVERIFY(::read(notes[0], &mark, 1) == 1);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(notes[0]);

    auto file = openFile(path);
    const auto rest = runPlan(plan, file, {}, true, {});
    QVERIFY2(rest, rest ? "" : rest.error().message.c_str());
    QCOMPARE(rest->before, 3);
    QCOMPARE(rest->done, 3);
    const auto runs = file->runs();
    QCOMPARE(runs->size(), size_t{6});
    for (const auto& run : *runs) QCOMPARE(run.status, storage::RunStatus::done);
  }
};

QTEST_GUILESS_MAIN(PlanTest)
#include "plan.moc"
