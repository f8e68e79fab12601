// SPDX-License-Identifier: GPL-3.0-or-later
// Plans from outside: killed in the middle and gone on with, changed, finished; sweeps over knobs of every kind.
#include <signal.h>

#include <QDir>
#include <map>

#include "storage/session_file.h"
#include "tests/support/command_line.h"

using namespace winnow::testing;
namespace storage = winnow::storage;

namespace {

QByteArray plan(const QByteArray& axes, const QByteArray& experiments, const QByteArray& rest = {}) {
  return R"({"winnow_plan":1,"model":")" + model("stories260K-f32").toUtf8() + R"(","axes":)" + axes + R"(,"experiments":[)" + experiments + "]" + rest + "}";
}
QByteArray evaluate(int chunks) {
  return R"({"kind":"evaluate","text":")" + corpus("tinystories_val.txt").toUtf8() + R"(","context":64,"chunks":)" + QByteArray::number(chunks) + "}";
}
const QByteArray kGenerate = R"({"kind":"generate","prompt":"Once upon a time","n":24,"temperature":0.8,"seed":3})";

// What a finished run found, without its times: the perplexity, or the tokens.
struct Found {
  double perplexity = 0, divergence = 0;
  std::vector<int32_t> tokens;
  bool operator==(const Found&) const = default;
};

// By configuration, kind and repeat; a configuration that is there twice with one kind and repeat is counted.
std::map<std::string, std::vector<Found>> finishedRuns(const QString& path) {
  std::map<std::string, std::vector<Found>> out;
  auto file = storage::SessionFile::open(path.toStdString(), storage::SessionFile::Mode::readOnly);
  if (!file) return out;
  const auto runs = (*file)->runs();
  if (!runs) return out;
  for (const storage::RunSummary& run : *runs) {
    if (run.status != storage::RunStatus::done) continue;
    Found found;
    if (const auto it = run.metrics.find("perplexity"); it != run.metrics.end()) found.perplexity = it->second.value;
    if (const auto it = run.metrics.find("kld_mean"); it != run.metrics.end()) found.divergence = it->second.value;
    const auto tokens = (*file)->tokens(run.id);
    if (tokens)
      for (const auto& token : *tokens) found.tokens.push_back(static_cast<int32_t>(token.token));
    out[run.name + " " + std::string(storage::runKindName(run.kind)) + " " + std::to_string(run.repeat)].push_back(found);
  }
  return out;
}

}  // namespace

class CliPlansTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void init() { NEED_SHARED_DATA(); }

  void killedInTheMiddle() {
    QTemporaryDir folder;
    const QString path = folder.filePath("plan.json"), killed = folder.filePath("killed.winnow"), whole = folder.filePath("whole.winnow");
    QVERIFY(write(path, plan(R"({"weights.bits":[16,4,2]})", evaluate(24) + "," + kGenerate, R"(,"repeats":2)")));
    QCOMPARE(run({"run", path, "--session", whole}).code, 0);

    QProcess process;
    process.start(program(), {"run", path, "--session", killed});
    QByteArray told;
    while (told.count("done") < 3 && process.waitForReadyRead(60'000)) told += process.readAllStandardOutput();
    QVERIFY(told.count("done") >= 3);
    ::kill(static_cast<pid_t>(process.processId()), SIGKILL);
    process.waitForFinished();
    told += process.readAllStandardOutput();
    const int seen = static_cast<int>(told.count("done"));

    const Answer rest = runJson({"run", path, "--session", killed, "--resume"});
    QCOMPARE(rest.code, 0);
    QVERIFY(rest.json()["done_before"].toInt() >= seen);  // what was told to be done is done
    QCOMPARE(rest.json()["done"].toInt() + rest.json()["done_before"].toInt(), 12);
    const auto expected = finishedRuns(whole), got = finishedRuns(killed);
    QCOMPARE(got.size(), size_t{12});
    for (const auto& [name, found] : got) {
      QVERIFY2(found.size() == 1, name.c_str());  // no point twice
      QVERIFY2(expected.contains(name) && expected.at(name) == found, name.c_str());
    }
    // The run that was cut off is in the file as what it is.
    for (const QJsonValue& each : runJson({"sessions", killed}).json()["runs"].toArray())
      QVERIFY(QStringList({"done", "interrupted"}).contains(each["status"].toString()));
    const Answer finished = runJson({"run", path, "--session", killed, "--resume"});
    QCOMPARE(finished.code, 0);
    QCOMPARE(finished.json()["done"].toInt(), 0);
    QCOMPARE(finished.json()["done_before"].toInt(), 12);
  }

  // A stopped point is to be done again, whatever its kind keeps of it.
  void aStopIsGoneOnWith_data() {
    QTest::addColumn<QByteArray>("experiment");
    QTest::newRow("evaluate") << evaluate(3000);
    QTest::newRow("generate") << QByteArray(R"({"kind":"generate","prompt":"a","n":1000,"ignore_eos":true})");
    QTest::newRow("bench") << QByteArray(R"({"kind":"bench","p":64,"n":64,"r":1000})");
    QTest::newRow("attribute") << QByteArray(R"({"kind":"attribute","context":"c.txt","question":"Who?","response":" Lily."})");
  }
  void aStopIsGoneOnWith() {
    QFETCH(QByteArray, experiment);
    QTemporaryDir folder;
    const QString path = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(folder.filePath("c.txt"), QByteArray("Lily had a red ball and Tom had a car. ").repeated(60)));
    QVERIFY(write(path, R"({"winnow_plan":1,"model":"starter","experiments":[)" + experiment + "]}"));
    QProcess process;
    process.start(program(), {"run", path, "--session", session, "--json"});
    QTRY_COMPARE_WITH_TIMEOUT(runJson({"sessions", session}).json()["runs"].toArray().size(), 1, 30'000);
    ::kill(static_cast<pid_t>(process.processId()), SIGINT);
    const Answer stopped = finished(process, 30'000);
    QCOMPARE(stopped.code, 5);
    QCOMPARE(stopped.json()["error"].toObject()["code"].toInt(), 5);
    auto file = storage::SessionFile::open(session.toStdString(), storage::SessionFile::Mode::readOnly);
    QVERIFY(static_cast<bool>(file));
    const auto sweeps = (*file)->sweeps();
    QCOMPARE(sweeps->front().points.front().state, storage::PointState::todo);
    const auto runs = (*file)->runs();
    QCOMPARE(runs->front().status, storage::RunStatus::cancelled);
  }

  void aChangedPlanIsNotGoneOnWith() {
    QTemporaryDir folder;
    const QString path = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(path, plan(R"({"weights.bits":[16,4]})", evaluate(1))));
    QCOMPARE(runJson({"run", path, "--session", session, "--resume"}).json()["done"].toInt(), 2);  // nothing there yet: it begins
    QVERIFY(refused({"run", path, "--session", session}, 2, "--resume"));
    QVERIFY(write(path, plan(R"({"weights.bits":[16,8]})", evaluate(1))));
    QVERIFY(refused({"run", path, "--session", session, "--resume"}, 2, "axes"));
    QVERIFY(write(path, plan(R"({"weights.bits":[16,4]})", evaluate(2))));
    QVERIFY(refused({"run", path, "--session", session, "--resume"}, 2, "experiments"));
    QVERIFY(write(path, plan(R"({"weights.bits":[16,4]})", evaluate(1))));
    QVERIFY(refused({"run", path, "--session", session, "--resume", "--set", "kv.interval=4"}, 2, "set"));
    QCOMPARE(runJson({"sessions", session}).json()["runs"].toArray().size(), 2);
    // Another name is the same plan, and a finished one needs no model.
    const QString renamed = folder.filePath("other.json");
    QVERIFY(QFile::rename(path, renamed));
    QCOMPARE(runJson({"run", renamed, "--session", session, "--resume"}).json()["done_before"].toInt(), 2);
    // Without --resume a changed plan is a new sweep in the same file.
    QVERIFY(write(path, plan(R"({"weights.bits":[8]})", evaluate(1))));
    QCOMPARE(runJson({"run", path, "--session", session}).json()["done"].toInt(), 1);
  }

  void axesOfEveryKind() {
    QTemporaryDir folder;
    const QString path = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(path, plan(R"({"kv.policy":["streaming","h2o"],"prune.ratio":[0,0.5],"share.block":[2]})", evaluate(1) + "," + kGenerate, R"(,"set":{"kv.budget":32,"kv.interval":4},"repeats":2)")));
    const Answer answer = runJson({"run", path, "--session", session});
    QVERIFY2(answer.code == 0, answer.err.constData());
    QCOMPARE(answer.json()["done"].toInt() + answer.json()["skipped"].toInt(), 2 * 2 * 2 * 2);
    QVERIFY(answer.json()["done"].toInt() > 0);
    int repeats[2] = {};
    for (const QJsonValue& each : runJson({"sessions", session}).json()["runs"].toArray()) {
      const QJsonObject effective = each["effective"].toObject();
      QCOMPARE(effective["kv.budget"].toString(), QStringLiteral("32"));
      QCOMPARE(effective["share.method"].toString(), QStringLiteral("echoatt"));
      QVERIFY(QStringList({"streaming", "h2o"}).contains(effective["kv.policy"].toString()));
      ++repeats[each["repeat"].toInt()];
    }
    QCOMPARE(repeats[0], repeats[1]);
    for (const auto& [name, found] : finishedRuns(session)) QVERIFY2(found.size() == 1, name.c_str());
  }

  void aRefusedPointWarnsOrFails() {
    QTemporaryDir folder;
    const QString path = folder.filePath("plan.json");
    QVERIFY(write(path, plan(R"({"compute.activations":["auto","int8"]})", evaluate(1))));
    const Answer answer = runJson({"run", path, "--session", folder.filePath("a.winnow")});
    QCOMPARE(answer.code, 0);
    QCOMPARE(answer.json()["adjusted"].toInt(), 1);  // only a session knows that these weights are plain
    QCOMPARE(answer.err.count("warning"), 1);
    QVERIFY(refused({"run", path, "--session", folder.filePath("b.winnow"), "--strict"}, 3, "asked"));
    QVERIFY(write(path, plan(R"({"share.first":[0,3]})", evaluate(1), R"(,"set":{"share.block":2})")));
    const Answer skipped = runJson({"run", path, "--session", folder.filePath("c.winnow")});
    QCOMPARE(skipped.code, 0);
    QCOMPARE(skipped.json()["skipped"].toInt(), 1);
    QCOMPARE(skipped.err.count("warning"), 1);
    QVERIFY(refused({"run", path, "--session", folder.filePath("d.winnow"), "--strict"}, 3, "asked"));
  }
};

QTEST_GUILESS_MAIN(CliPlansTest)
#include "cli_plans.moc"
