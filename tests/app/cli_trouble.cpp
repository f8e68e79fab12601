// SPDX-License-Identifier: GPL-3.0-or-later
// What bad files get from winnow-cli: one sentence, the exit code, nothing lost, no crash, no hang.
#include <sys/stat.h>
#include <unistd.h>

#include <QDir>
#include <QFileInfo>
#include <cstring>

#include "tests/support/command_line.h"

using namespace winnow::testing;

namespace {

QString stories() { return model("stories260K-f32"); }

QByteArray contents(const QString& path) {
  QFile file(path);
  return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

QByteArray with64(QByteArray bytes, qsizetype at, quint64 value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

QByteArray evaluatePlan(const QString& text, const char* axis = "16,8,4", int chunks = 2) {
  return QStringLiteral(R"({"winnow_plan":1,"model":"%1","axes":{"weights.bits":[%2]},"experiments":[{"kind":"evaluate","text":"%3","context":64,"chunks":%4}]})")
      .arg(stories(), QLatin1String(axis), text)
      .arg(chunks)
      .toUtf8();
}

}  // namespace

class CliTroubleTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void init() { NEED_SHARED_DATA(); }

  void models_data() {
    QTest::addColumn<QByteArray>("bytes");
    QTest::addColumn<QByteArray>("says");
    const QByteArray good = contents(stories());
    const auto row = [](const char* name, const QByteArray& bytes, const char* says) { QTest::newRow(name) << bytes << QByteArray(says); };
    row("empty", {}, "m.gguf");
    row("wrong magic", "GGML" + good.mid(4), "m.gguf");
    row("version 99", with64(good, 0, 0x63'4655'4747ull | (good.size() > 12 ? quint64(quint8(good[8])) << 56 : 0)).replace(8, 8, good.mid(8, 8)), "m.gguf");
    row("header only", good.left(24), "m.gguf");
    row("truncated keys", good.left(300), "m.gguf");
    row("truncated data", good.left(good.size() / 2), "m.gguf");
    row("one byte short", good.left(good.size() - 1), "m.gguf");
    row("2^60 tensors", with64(good, 8, quint64{1} << 60), "m.gguf");
    row("2^60 keys", with64(good, 16, quint64{1} << 60), "m.gguf");
    row("a key of 2^62 bytes", with64(good, 24, quint64{1} << 62), "m.gguf");
    QByteArray unknown = good;
    const qsizetype name = unknown.indexOf("llama", unknown.indexOf("general.architecture"));
    QVERIFY(name > 0);
    row("unknown architecture", unknown.replace(name, 5, "lluma"), "lluma");
  }
  void models() {
    QFETCH(QByteArray, bytes);
    QFETCH(QByteArray, says);
    QTemporaryDir folder;
    const QString path = folder.filePath("m.gguf");
    QVERIFY(write(path, bytes));
    QVERIFY(refused({"info", path}, 3, says.constData()));
    QVERIFY(refused({"generate", path, "--prompt", "a", "-n", "2"}, 3, says.constData()));
    QVERIFY(refused({"perplexity", path, "--text", corpus("tinystories_60k.txt"), "--context", "64"}, 3, says.constData()));
  }

  // Values that are no numbers are found when they meet the first token, and never end as a perplexity or as text.
  void modelsFullOfNaN() {
    QByteArray bytes = contents(stories());
    const quint32 nan = 0x7fc00000;
    for (qsizetype at = bytes.size() - bytes.size() / 2 / 4 * 4; at + 4 <= bytes.size(); at += 4) std::memcpy(bytes.data() + at, &nan, 4);
    QTemporaryDir folder;
    const QString path = folder.filePath("m.gguf");
    QVERIFY(write(path, bytes));
    QVERIFY(refused({"generate", path, "--prompt", "a", "-n", "2"}, 3, "NaN"));
    QVERIFY(refused({"perplexity", path, "--text", corpus("tinystories_60k.txt"), "--context", "64", "--chunks", "1"}, 3, "NaN"));
  }

  void pipesAndDevicesAreNotWaitedFor() {
    QTemporaryDir folder;
    const QString pipe = folder.filePath("pipe"), session = folder.filePath("s.winnow");
    QCOMPARE(::mkfifo(QFile::encodeName(pipe).constData(), 0600), 0);
    QVERIFY(refused({"info", pipe}, 3, "pipe"));
    QVERIFY(refused({"sessions", pipe}, 3, "pipe"));
    QVERIFY(refused({"run", pipe, "--session", session}, 3, "JSON"));
    QVERIFY(refused({"run", "/dev/zero", "--session", session}, 3, "MiB"));
    QVERIFY(refused({"run", folder.path(), "--session", session}, 3, "folder"));
    QVERIFY(refused({"perplexity", stories(), "--text", pipe}, 3, ""));
  }

  void plansNameWhatIsWrong() {
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    const auto refuse = [&](const QByteArray& json, int code, const char* says) { return write(plan, json) && refused({"run", plan, "--session", session}, code, says); };
    const QString text = corpus("tinystories_60k.txt");
    QVERIFY(refuse("{", 3, "JSON"));
    QVERIFY(refuse("[]", 3, "object"));
    QVERIFY(refuse(evaluatePlan(text, "16,7"), 2, "axes.weights.bits[1]"));
    QVERIFY(refuse(evaluatePlan(text).replace("weights.bits", "weights.bit"), 2, "axes.weights.bit"));
    QVERIFY(refuse(evaluatePlan(text).replace("\"axes\"", "\"exes\""), 2, "exes"));
    QVERIFY(refuse(evaluatePlan(text).replace("\"context\":64", "\"context\":\"64\""), 2, "experiments[0].context"));
    // Missing files are found before anything is run.
    QVERIFY(refuse(evaluatePlan(folder.filePath("none.txt")), 3, "none.txt"));
    QVERIFY(refuse(evaluatePlan(text).replace("stories260K", "none"), 3, "none"));
    QVERIFY(refused({"run", folder.filePath("none.json"), "--session", session}, 3, "none.json"));
    QVERIFY(refused({"run", plan, "--session", folder.filePath("no/folder/s.winnow")}, 1, "no/folder"));
    QCOMPARE(runJson({"sessions", session}).json()["runs"].toArray().size(), 0);
    // A text that is too short fails every point: the first reason says how.
    QVERIFY(write(folder.filePath("short.txt"), "Too short."));
    QVERIFY(refuse(evaluatePlan(folder.filePath("short.txt")), 3, "128"));
    QCOMPARE(runJson({"run", plan, "--session", session, "--resume"}).json()["failed"].toInt(), 3);
  }

  void sessionsThatAreNotOurs() {
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow"), bad = folder.filePath("bad.winnow");
    QVERIFY(write(plan, evaluatePlan(corpus("tinystories_60k.txt"), "16")));
    QCOMPARE(run({"run", plan, "--session", session}).code, 0);
    const QByteArray good = contents(session);
    const auto refuse = [&](const QByteArray& bytes, const char* says) {
      bool kept = write(bad, bytes);
      for (const QStringList& command : {QStringList{"sessions", bad}, {"export", bad, "--chart", "memory", "--out", folder.filePath("x.png")}, {"run", plan, "--session", bad, "--resume"}})
        kept = kept && refused(command, 3, says) && contents(bad) == bytes;
      return kept;
    };
    QVERIFY(refuse("just text, and enough of it to look like something at least one header long .................................", "not a Winnow session"));
    QVERIFY(refuse(QByteArray(good).replace(68, 4, "ABCD"), "another program"));
    QVERIFY(refuse(good.left(good.size() / 2), "damaged"));
    QVERIFY(refuse(QByteArray(good).replace(8192, 4096, QByteArray(4096, '\x5a')), "damaged"));
    QVERIFY(refused({"sessions", folder.path()}, 3, "folder"));
    QVERIFY(refused({"sessions", folder.filePath("none.winnow")}, 3, "none.winnow"));
    // Newer than ours: what can be read is read, nothing is written.
    const QByteArray newer = QByteArray(good).replace(60, 4, QByteArray("\0\0\0\x63", 4));
    QVERIFY(write(bad, newer));
    QCOMPARE(runJson({"sessions", bad}).json()["runs"].toArray().size(), 1);
    QVERIFY(refused({"run", plan, "--session", bad, "--resume"}, 3, "newer"));
    QCOMPARE(contents(bad), newer);
  }

  void aSessionSomebodyElseWritesIsLeftAlone() {
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(plan, evaluatePlan(corpus("tinystories_val.txt"), "16", 2000)));
    QProcess first;
    first.start(program(), {"run", plan, "--session", session});
    QTRY_VERIFY_WITH_TIMEOUT(QFile::exists(session + QStringLiteral("-wal")), 30'000);
    QTRY_COMPARE_WITH_TIMEOUT(runJson({"sessions", session}).json()["runs"].toArray().size(), 1, 30'000);  // reading goes on
    QVERIFY(refused({"run", plan, "--session", session, "--resume"}, 1, "open"));
    QVERIFY(first.state() == QProcess::Running);
    first.terminate();
    QCOMPARE(finished(first, 30'000).code, 5);
  }

  void aFullDiskLosesNothing() {
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(plan, evaluatePlan(corpus("tinystories_60k.txt"), "16,8,6,5,4,3,2", 40)));
    const auto limited = [&](int kib) {  // a file size limit stands for the disk: root may not make one full
      QProcess shell;
      shell.start("/bin/bash", {"-c", QStringLiteral("ulimit -f %1; exec %2 run %3 --session %4 --resume --json").arg(kib).arg(program(), plan, session)});
      return finished(shell, 60'000);
    };
    const Answer none = limited(16);
    QCOMPARE(none.code, 1);
    QCOMPARE(none.err.count('\n'), 1);
    QVERIFY(!QFile::exists(session));
    const Answer some = limited(440);
    QVERIFY2(some.code == 1, some.out + some.err);
    QCOMPARE(some.err.count('\n'), 1);
    QVERIFY(some.err.contains("s.winnow"));
    int kept = 0;
    for (const QJsonValue& point : some.json()["points"].toArray()) kept += point.toObject()["state"].toString() == QLatin1String("done");
    const QJsonObject rest = runJson({"run", plan, "--session", session, "--resume"}).json();
    QVERIFY(rest["done_before"].toInt() >= kept);
    QCOMPARE(rest["done"].toInt() + rest["done_before"].toInt(), 7);
  }

  void aReadOnlySessionIsReadAndNotWritten() {
    QTemporaryDir folder;
    const QString plan = folder.filePath("plan.json"), session = folder.filePath("s.winnow");
    QVERIFY(write(plan, evaluatePlan(corpus("tinystories_60k.txt"), "16")));
    QCOMPARE(run({"run", plan, "--session", session}).code, 0);
    const QByteArray before = contents(session);
    QVERIFY(QFile::setPermissions(session, QFileDevice::ReadOwner | QFileDevice::ReadOther));
    QVERIFY(QFile::setPermissions(folder.path(), QFileDevice::ReadOwner | QFileDevice::ExeOwner | QFileDevice::ReadOther | QFileDevice::ExeOther));
    const auto asNobody = [&](const QStringList& arguments) {  // permissions do not bind root
      QProcess process;
      if (::geteuid() == 0) process.setChildProcessModifier([] { static_cast<void>(!::setgid(65534) && !::setuid(65534)); });
      process.start(program(), arguments);
      return process.waitForStarted() ? finished(process) : Answer{};
    };
    const Answer read = asNobody({"sessions", session, "--json"});
    if (read.code == -1) QSKIP("the program can't be started as another user here");
    QCOMPARE(read.code, 0);
    QCOMPARE(read.json()["runs"].toArray().size(), 1);
    const Answer written = asNobody({"run", plan, "--session", session, "--resume", "--json"});
    QCOMPARE(written.code, 1);
    QCOMPARE(written.err.count('\n'), 1);
    QVERIFY(written.err.contains("written"));
    QCOMPARE(contents(session), before);
    QVERIFY(QFile::setPermissions(folder.path(), QFileDevice::ReadOwner | QFileDevice::WriteOwner | QFileDevice::ExeOwner));
  }

  // From far too little (in less the system can't even map the program) to enough: the refusal is a sentence and 4 (127: the libraries themselves find no room), never a crash.
  void notEnoughMemory() {
    int refusals = 0, code = -1;
    for (int mib = 100; code != 0 && mib <= 1000; mib += 10) {
      QProcess shell;
      shell.start("/bin/bash", {"-c", QStringLiteral("ulimit -v %1; exec %2 generate %3 --prompt a -n 3 --set weights.bits=4 --threads 2 --json")
                                          .arg(mib * 1024).arg(program(), model("random-llama-256-f32"))});
      const Answer answer = finished(shell);
      code = answer.code;
      QVERIFY2(code == 0 || code == 4 || code == 127, qPrintable(QStringLiteral("%1 MiB: exit %2, %3").arg(mib).arg(code).arg(QString::fromUtf8(answer.err))));
      if (code != 4) continue;
      ++refusals;
      QCOMPARE(answer.err.count('\n'), 1);
      QVERIFY(answer.err.contains("memory"));
    }
    QCOMPARE(code, 0);
    QVERIFY(refusals > 0);
  }
};

QTEST_GUILESS_MAIN(CliTroubleTest)
#include "cli_trouble.moc"
