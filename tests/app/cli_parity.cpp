// SPDX-License-Identifier: GPL-3.0-or-later
// The window's path and the command line are one: the same tokens, perplexity and stored records. What a Workbench stores of
// changes, stops and crashes.
#include <signal.h>

#include <QSignalSpy>

#include "experiments/workbench.h"
#include "tests/support/command_line.h"

using namespace winnow::testing;
using winnow::Workbench;
namespace storage = winnow::storage;

namespace {

constexpr int kPatience = 60'000;  // ms; a loaded machine

storage::RunSummary lastRun(Workbench& bench) {
  if (const auto flushed = bench.session()->flush(); !flushed) qFatal("%s", flushed.error().message.c_str());
  const auto runs = bench.session()->runs();
  if (!runs || runs->empty()) qFatal("no run was stored");
  return runs->front();
}

winnow::GenerateRequest story(int tokens, float temperature = 0) {
  winnow::GenerateRequest request;
  request.prompt = QStringLiteral("Once upon a time");
  request.tokens = tokens;
  request.ignoreEos = true;
  request.sampler.temperature = temperature;
  request.sampler.seed = 7;
  return request;
}

}  // namespace

class CliParityTest : public QObject {
  Q_OBJECT

  // A workbench on a model with a session of its own, at rest.
  bool open(Workbench& bench, const QString& session, int context = 0, const char* name = "stories260K-f32") {
    QString error;
    bench.openModel(model(name), context);
    return QTest::qWaitFor([&] { return bench.hasModel() && !bench.job().running; }, kPatience) && bench.createSession(session, &error);
  }
  bool rest(Workbench& bench) {
    return QTest::qWaitFor([&] { return !bench.job().running && !bench.weightsPending(); }, kPatience);
  }

 private Q_SLOTS:
  void init() { NEED_SHARED_DATA(); }

  void theSameNumbers() {
    QTemporaryDir folder;
    Workbench bench({});
    QVERIFY(open(bench, folder.filePath("w.winnow")));
    bench.setKnob(QStringLiteral("weights.bits"), int64_t{4});
    QVERIFY(QTest::qWaitFor([&] { return bench.effective().asRequested() && bench.effective().config.integer("weights.bits") == 4 && !bench.weightsPending(); }, kPatience));

    // Tokens and their surprise.
    bench.generate(story(32, 0.7f));
    QVERIFY(rest(bench));
    const storage::RunSummary generated = lastRun(bench);
    const auto tokens = bench.session()->tokens(generated.id);
    QVERIFY(static_cast<bool>(tokens));
    QJsonArray ids;
    std::vector<double> nll;
    for (const auto& token : *tokens)
      if (!token.prefill) {
        ids.append(static_cast<qint64>(token.token));
        nll.push_back(token.nll.value_or(-1));
      }
    const QJsonObject line = runJson({"generate", model("stories260K-f32"), "--prompt", "Once upon a time", "-n", "32", "--ignore-eos", "--temperature", "0.7", "--seed", "7", "--set",
                                      "weights.bits=4"}).json();
    QCOMPARE(line["tokens"].toArray(), ids);
    for (size_t i = 0; i < nll.size(); ++i) QVERIFY(std::abs(line["nll"].toArray()[static_cast<qsizetype>(i)].toDouble() - nll[i]) < 1e-6);

    // Perplexity and divergence, digit by digit.
    winnow::EvaluateSpec spec;
    spec.textPath = corpus("tinystories_60k.txt");
    spec.context = 64;
    spec.chunks = 3;
    bench.evaluate(spec);
    QVERIFY(rest(bench));
    const storage::RunSummary evaluated = lastRun(bench);
    const QJsonObject perplexity = runJson({"perplexity", model("stories260K-f32"), "--text", spec.textPath, "--context", "64", "--chunks", "3", "--against", "baseline", "--set", "weights.bits=4"}).json();
    QCOMPARE(perplexity["perplexity"].toDouble(), evaluated.metrics.at("perplexity").value);
    QCOMPARE(perplexity["kld"].toObject()["mean"].toDouble(), evaluated.metrics.at("kld_mean").value);
    QCOMPARE(perplexity["protocol"].toString().toStdString(), evaluated.protocol);

    // The same plan through the command line stores the same records.
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("c.winnow");
    QVERIFY(write(plan, QStringLiteral(R"({"winnow_plan":1,"model":"%1","set":{"weights.bits":4},"experiments":[
      {"kind":"generate","prompt":"Once upon a time","n":32,"ignore_eos":true,"temperature":0.7,"seed":7},{"kind":"evaluate","text":"%2","context":64,"chunks":3}]})")
                            .arg(model("stories260K-f32"), spec.textPath).toUtf8()));
    QCOMPARE(run({"run", plan, "--session", session}).code, 0);
    auto file = storage::SessionFile::open(session.toStdString(), storage::SessionFile::Mode::readOnly);
    QVERIFY(static_cast<bool>(file));
    const auto stored = (*file)->runs();
    QCOMPARE(stored->size(), size_t{2});
    for (const storage::RunSummary& theirs : *stored) {
      const storage::RunSummary& ours = theirs.kind == storage::RunKind::generate ? generated : evaluated;
      QCOMPARE(theirs.status, ours.status);
      QVERIFY(theirs.requested == ours.requested);
      QVERIFY(theirs.effective == ours.effective);
      QCOMPARE(theirs.divergenceJson, ours.divergenceJson);
      QCOMPARE(theirs.protocol, ours.protocol);
      QCOMPARE(theirs.corpus, ours.corpus);
      QCOMPARE(theirs.tokens, ours.tokens);
      QCOMPARE(theirs.seed, ours.seed);
      for (const char* metric : {"perplexity", "kld_mean", "kld_p99", "top1", "bits_per_byte"})
        if (ours.metrics.contains(metric)) QCOMPARE(theirs.metrics.at(metric).value, ours.metrics.at(metric).value);
      const auto their = (*file)->tokens(theirs.id), our = bench.session()->tokens(ours.id);
      QCOMPARE(their->size(), our->size());
      for (size_t i = 0; i < our->size(); ++i) {
        QCOMPARE((*their)[i].token, (*our)[i].token);
        QCOMPARE((*their)[i].nll.value_or(-1), (*our)[i].nll.value_or(-1));
        QCOMPARE((*their)[i].epoch, (*our)[i].epoch);
        QCOMPARE((*their)[i].kvLive, (*our)[i].kvLive);
      }
    }
  }

  void changesAreStoredWithTheirCause() {
    QTemporaryDir folder;
    Workbench bench({});
    QVERIFY(open(bench, folder.filePath("w.winnow"), 20000, "random-llama-256-f32"));
    const QSignalSpy epochs(&bench, &Workbench::epochBegan);
    const QSignalSpy tokens(&bench, &Workbench::tokensArrived);
    bench.setKnob(QStringLiteral("kv.policy"), std::string("streaming"));
    bench.setKnob(QStringLiteral("kv.budget"), int64_t{256});
    QVERIFY(rest(bench));
    const winnow::Config before = bench.requested();
    bench.generate(story(20000));
    QTRY_VERIFY_WITH_TIMEOUT(tokens.size() > 1, kPatience);
    bench.setKnob(QStringLiteral("kv.budget"), int64_t{64});
    QTRY_COMPARE_WITH_TIMEOUT(epochs.size(), 1, kPatience);
    bench.setConfig(before, QStringLiteral("undo"));
    QTRY_COMPARE_WITH_TIMEOUT(epochs.size(), 2, kPatience);
    bench.setKnob(QStringLiteral("weights.bits"), int64_t{4});
    QTRY_COMPARE_WITH_TIMEOUT(epochs.size(), 3, kPatience);  // when the converter has published
    bench.stop();
    QVERIFY(rest(bench));

    const storage::RunSummary stopped = lastRun(bench);
    QCOMPARE(stopped.status, storage::RunStatus::cancelled);
    QVERIFY(stopped.tokens > 0);
    QCOMPARE(stopped.requested.at("kv.budget"), std::string("256"));   // as it began
    QCOMPARE(stopped.effective.at("weights.bits"), std::string("4"));  // as it ended
    const auto events = bench.session()->knobEvents(stopped.id);
    QVERIFY(static_cast<bool>(events));
    std::map<int, std::string> causes;
    for (const storage::KnobEvent& event : *events) {
      causes[event.epoch] = event.cause;
      QVERIFY(event.atToken > 0);
      if (event.epoch == 1) QCOMPARE(event.knob + " " + event.oldValue + " " + event.newValue, std::string("kv.budget 256 64"));
    }
    QCOMPARE(causes, (std::map<int, std::string>{{1, "user"}, {2, "undo"}, {3, "user"}}));
    // Every token names its epoch, and epochs only go up.
    const auto samples = bench.session()->tokens(stopped.id);
    int epoch = 0;
    for (const storage::TokenSample& sample : *samples) {
      QVERIFY(sample.epoch >= epoch);
      epoch = sample.epoch;
    }
    QVERIFY(epoch >= 2);
  }

  void aKilledProcessLeavesAnInterruptedRun() {
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(plan, QStringLiteral(R"({"winnow_plan":1,"model":"%1","experiments":[{"kind":"evaluate","text":"%2","context":64}]})").arg(model("stories260K-f32"), corpus("tinystories_val.txt")).toUtf8()));
    QProcess process;
    process.start(program(), {"run", plan, "--session", session});
    QTRY_COMPARE_WITH_TIMEOUT(runJson({"sessions", session}).json()["runs"].toArray().size(), 1, kPatience);
    ::kill(static_cast<pid_t>(process.processId()), SIGKILL);
    process.waitForFinished();

    Workbench bench({});
    QString error;
    storage::OpenReport report;
    QVERIFY2(bench.openSession(session, &error, &report), qPrintable(error));
    QVERIFY(!report.readOnly);
    QCOMPARE(report.interrupted.size(), size_t{1});
    QCOMPARE(lastRun(bench).status, storage::RunStatus::interrupted);
    QCOMPARE(lastRun(bench).id, report.interrupted.front());
  }
};

QTEST_GUILESS_MAIN(CliParityTest)
#include "cli_parity.moc"
