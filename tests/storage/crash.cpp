// SPDX-License-Identifier: GPL-3.0-or-later
// The writer is killed at any moment: the file stays sound and what was acknowledged is in it. Damaged files get an answer, not a crash.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>

#include "tests/storage/support.h"

using namespace winnow::storage;
using namespace winnow::storage::test;

namespace {

// Shared between the parent and the child that is killed.
struct Acknowledged {
  std::atomic<int64_t> run{0}, token{-1}, finished{0}, flushes{0};
};

// What an experiment does, with a flush every few samples; what the flush confirmed is acknowledged. Never returns.
[[noreturn]] void writeUntilKilled(const std::string& path, Acknowledged& acknowledged) {
  SessionOptions options;
  options.commitEvery = std::chrono::milliseconds(3);
  auto opening = openSession(path, Mode::openOrCreate, nullptr, options);
  if (!opening || (*opening)->readOnly()) _exit(3);
  SessionFile& session = **opening;
  for (;;) {
    auto id = session.beginRun(newRun());
    if (!id) _exit(4);
    for (int64_t i = 0; i < 200; ++i) {
      session.addTokens(*id, {token(i)});
      session.addMemory(*id, {{i, "kv", i}, {i, "weights", i}});
      if (i % 20 != 19) continue;
      if (!session.flush()) _exit(5);
      acknowledged.token = -1;  // token is only read for the run named beside it
      acknowledged.run = *id;
      acknowledged.token = i;
      ++acknowledged.flushes;
    }
    session.setMetrics(*id, {{"perplexity", "", "lower", 200, 3.5}});
    session.finishRun(*id, RunStatus::done);
    if (!session.flush()) _exit(6);
    acknowledged.finished = *id;
  }
}

}  // namespace

class CrashTest : public QObject {
  Q_OBJECT

 private Q_SLOTS:
  void killedWriter();
  void flippedAndCutFiles();
  void hostileSchema();

 private:
  void touchAll(SessionFile& session);
};

void CrashTest::killedWriter() {
  Folder folder;
  const std::string path = folder / "killed.winnow";
  void* shared = mmap(nullptr, sizeof(Acknowledged), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  QVERIFY(shared != MAP_FAILED);
  auto& acknowledged = *new (shared) Acknowledged;
  std::mt19937 random(7);
  int64_t rows = 0;
  constexpr int rounds = 50;
  for (int round = 0; round < rounds; ++round) {
    acknowledged.run = acknowledged.finished = acknowledged.flushes = 0;
    acknowledged.token = -1;
    const pid_t child = fork();
    QVERIFY(child >= 0);
    if (child == 0) writeUntilKilled(path, acknowledged);
    // Every fifth time somewhere in the opening, else after some confirmed work and a little more.
    const int64_t flushes = round % 5 == 0 ? 0 : static_cast<int64_t>(random() % 40);
    for (int waited = 0; acknowledged.flushes < flushes && waited < 20'000; ++waited) usleep(500);
    usleep(random() % 8000);
    kill(child, SIGKILL);
    int status = 0;
    QCOMPARE(waitpid(child, &status, 0), child);
    QVERIFY2(WIFSIGNALED(status), qPrintable(QStringLiteral("the child ended by itself: %1").arg(status)));
    if (!QFile::exists(QString::fromStdString(path))) continue;  // killed before the file had its name

    OpenReport report;
    Session session = opened(path, Mode::open, &report);
    QVERIFY(session && !session->readOnly());
    const Id run = acknowledged.run, finished = acknowledged.finished;
    if (run > 0) {
      const auto tokens = session->tokens(run);
      REQUIRE_OK(tokens);
      QVERIFY(static_cast<int64_t>(tokens->size()) > acknowledged.token);
      for (size_t i = 0; i < tokens->size(); ++i) QCOMPARE((*tokens)[i].index, static_cast<int64_t>(i));
      QCOMPARE(session->run(run)->tokens, static_cast<int64_t>(tokens->size()));
    }
    if (finished > 0) QCOMPARE(session->run(finished)->status, RunStatus::done);
    for (const Id id : report.interrupted) QCOMPARE(session->run(id)->status, RunStatus::interrupted);
    for (const RunSummary& r : *session->runs()) {
      QVERIFY(r.status == RunStatus::done || r.status == RunStatus::interrupted);
      if (r.status == RunStatus::done) QCOMPARE(r.tokens, int64_t{200});
      rows += r.tokens;
    }
    REQUIRE_OK(session->close());
    Db db(path, Db::Access::readOnly);
    QCOMPARE(db.value("PRAGMA integrity_check"), std::string("ok"));
    QCOMPARE(db.value("PRAGMA foreign_key_check"), std::string());
  }
  munmap(shared, sizeof(Acknowledged));
  QVERIFY2(rows > 1000, qPrintable(QString::number(rows)));
}

// Every reader on whatever opened: values may be wrong, nothing may crash or hang.
void CrashTest::touchAll(SessionFile& session) {
  const auto runs = session.runs();
  std::vector<Id> ids = {1, 2, 3};
  if (runs)
    for (const RunSummary& r : *runs) ids.push_back(r.id);
  if (ids.size() > 8) ids.resize(8);
  for (const Id id : ids) {
    (void)session.run(id);
    (void)session.tokens(id);
    (void)session.memory(id);
    (void)session.knobEvents(id);
    (void)session.events(id);
    (void)session.windows(id);
    (void)session.bench(id);
    (void)session.opStats(id);
    (void)session.attribution(id);
    (void)session.prompt(id);
    (void)session.output(id);
    (void)session.environment(id);
  }
  (void)session.sweeps();
  (void)session.ui();
}

void CrashTest::flippedAndCutFiles() {
  Folder folder;
  const std::string golden = folder / "golden.winnow", path = folder / "mutated.winnow";
  {
    Session session = opened(golden, Mode::create);
    SweepRecord sweep;
    sweep.name = "s";
    sweep.points = {{0, 0, config(4), "{}", PointState::todo, std::nullopt, ""}};
    *session->addSweep(sweep);
    for (int r = 0; r < 3; ++r) {
      const Id id = *session->beginRun(newRun());
      for (int i = 0; i < 300; ++i) session->addTokens(id, {token(i)});
      session->addMemory(id, {{0, "kv", 1}});
      session->addWindows(id, {{0, 0, 255, 510.5, 1100.25, 0.125, 250}});
      session->addEvents(id, {{7, "warning", "c", "t"}});
      session->setMetrics(id, {{"perplexity", "", "lower", 1, 2}});
      session->setOutput(id, std::string(20'000, 'x'));  // overflow pages
      session->setAttribution(id, {"loo", "sentence", "c", "q", "r", 0, 0, 0, 0, 0, true, {{0, 0, 1, "c", 1.0, {0.5F, 1.0F}}}});
      if (r < 2) session->finishRun(id, RunStatus::done);
    }
    REQUIRE_OK(session->close());
  }
  const std::string good = bytesOf(golden);
  QVERIFY(good.size() > 100'000);
  std::mt19937 random(12345);
  int answered = 0, refusals = 0;
  const auto tryOpen = [&](const std::string& bytes) {
    writeBytes(path, bytes);
    for (const Mode mode : {Mode::readOnly, Mode::open}) {
      QFile::remove(QString::fromStdString(path + "-wal"));
      auto session = SessionFile::open(path, mode);
      if (session) {
        touchAll(**session);
        (void)(*session)->beginRun(newRun());
        (void)(*session)->flush();
        (void)(*session)->close();
        ++answered;
      } else {
        QVERIFY(!session.error().message.empty());
        QVERIFY(session.error().message.find("mutated.winnow") != std::string::npos);
        if (mode == Mode::readOnly) QCOMPARE(bytesOf(path), bytes);  // nothing is overwritten
        ++refusals;
      }
    }
  };
  for (int round = 0; round < 250; ++round) {
    std::string bytes = good;
    // Headers and schema pages first, then anywhere: a few bytes, or a stretch of zeros.
    const size_t range = round % 3 == 0 ? 200 : round % 3 == 1 ? 40'000 : bytes.size();
    const int flips = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < flips; ++i) bytes[random() % range] = static_cast<char>(random());
    if (round % 10 == 9) std::fill_n(bytes.begin() + static_cast<long>(random() % (bytes.size() - 9000)), 8192, '\0');
    tryOpen(bytes);
  }
  for (int round = 0; round < 60; ++round) tryOpen(good.substr(0, round < 20 ? static_cast<size_t>(round) * 10 : random() % good.size()));
  std::printf("%d of %d damaged files could still be read, %d were refused\n", answered, answered + refusals, refusals);
  QVERIFY(answered > 0 && refusals > 100);
  // The damage is named, and what to do about it.
  auto cut = SessionFile::open(golden, Mode::readOnly);
  REQUIRE_OK(cut);
  writeBytes(path, good.substr(0, good.size() / 2));
  auto damaged = SessionFile::open(path, Mode::open);
  QVERIFY(!damaged);
  QCOMPARE(damaged.error().problem, Problem::damaged);
  QVERIFY(damaged.error().hint.find(".recover") != std::string::npos);
  QCOMPARE(bytesOf(path), good.substr(0, good.size() / 2));
}

// A file that came by e-mail must not bring code of its own.
void CrashTest::hostileSchema() {
  Folder folder;
  const std::string path = folder / "s.winnow";
  const auto tampered = [&](const char* sql) {
    QFile::remove(QString::fromStdString(path));
    REQUIRE_OK(opened(path, Mode::create)->close());
    {
      Db db(path, Db::Access::readWrite);
      db.exec(sql);
    }
    for (const Mode mode : {Mode::open, Mode::readOnly}) {
      auto session = SessionFile::open(path, mode);
      QVERIFY2(!session, sql);
      QCOMPARE(session.error().problem, Problem::damaged);
    }
  };
  tampered("CREATE TRIGGER spy AFTER INSERT ON run BEGIN DELETE FROM prompt; END");
  tampered("DROP TRIGGER run_frozen");
  tampered("DROP TABLE prompt");
  tampered(
      "DROP TABLE ppl_window; CREATE VIEW ppl_window AS WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM x) SELECT n FROM x");
  tampered("ALTER TABLE run ADD COLUMN more TEXT");
  // What a person adds for their own queries is welcome.
  QFile::remove(QString::fromStdString(path));
  REQUIRE_OK(opened(path, Mode::create)->close());
  {
    Db db(path, Db::Access::readWrite);
    db.exec("CREATE TABLE mine(x); CREATE INDEX by_nll ON token_sample(nll); CREATE VIEW slow AS SELECT * FROM run");
  }
  QVERIFY(opened(path, Mode::open));
}

QTEST_GUILESS_MAIN(CrashTest)
#include "crash.moc"
