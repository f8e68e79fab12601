// SPDX-License-Identifier: GPL-3.0-or-later
// Disks that fill or fail, files that are not ours, newer, locked, read-only, taken away, or open twice.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "storage/schema.h"
#include "storage/write.h"
#include "tests/storage/failing_disk.h"
#include "tests/storage/support.h"

using namespace winnow::storage;
using namespace winnow::storage::test;

namespace {

SessionOptions on(const char* vfs) {
  SessionOptions options;
  options.vfs = vfs;
  options.commitEvery = options.retryFirst = std::chrono::milliseconds(5);
  options.retryMost = std::chrono::milliseconds(20);
  options.busyMs = 50;
  return options;
}

// A sentence names the file and what is wrong; the file is untouched.
void refused(const std::string& path, Problem problem, const char* words, Mode mode = Mode::open) {
  const std::string before = bytesOf(path);
  auto session = SessionFile::open(path, mode);
  QVERIFY(!session);
  QVERIFY2(session.error().problem == problem, session.error().message.c_str());
  QVERIFY2(session.error().message.find(words) != std::string::npos, session.error().message.c_str());
  QVERIFY2(session.error().message.find(path) != std::string::npos, session.error().message.c_str());
  QVERIFY(session.error().message.find('\n') == std::string::npos);
  QCOMPARE(bytesOf(path), before);
}

void sound(const std::string& path) {
  Db db(path, Db::Access::readOnly);
  QCOMPARE(db.value("PRAGMA integrity_check"), std::string("ok"));
  QCOMPARE(db.value("PRAGMA foreign_key_check"), std::string());
}

}  // namespace

class TroubleTest : public QObject {
  Q_OBJECT

 private Q_SLOTS:
  void filesThatAreNotOurs();
  void attributionsOfTheFirstFormat();
  void newerFormats();
  void olderFormats_data();
  void olderFormats();
  void diskFills();
  void diskFullForEver();
  void anyOperationFails();
  void readOnlyFileAndFolder();
  void locked();
  void deletedWhileOpen();
  void twoProcesses();
  void ownerOfTheDead();
  void openTwiceInOneProcess();
};

void TroubleTest::filesThatAreNotOurs() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  refused(path, Problem::notFound, "No such file");
  refused(path, Problem::notFound, "No such file", Mode::readOnly);
  writeBytes(path, "");
  refused(path, Problem::notASession, "it is empty");
  writeBytes(path, "hello");
  refused(path, Problem::notASession, "does not begin like an SQLite file");
  writeBytes(path, std::string(5000, 'x'));
  refused(path, Problem::notASession, "does not begin like an SQLite file", Mode::openOrCreate);
  QFile::remove(QString::fromStdString(path));
  { Db(path, Db::Access::create).exec("CREATE TABLE t(x)"); }
  refused(path, Problem::notASession, "another program (application id 0x00000000");
  { Db(path, Db::Access::readWrite).exec("PRAGMA application_id = 1464749655"); }
  refused(path, Problem::damaged, "format number is 0");
  { Db(path, Db::Access::readWrite).exec("PRAGMA user_version = " + std::to_string(kFormatVersion)); }
  refused(path, Problem::damaged, "is missing");
  refused(folder / ".", Problem::notASession, "is a folder");
  const std::string pipe = folder / "pipe";
  QCOMPARE(mkfifo(pipe.c_str(), 0600), 0);
  const auto fifo = SessionFile::open(pipe, Mode::open);  // must not wait for a writer
  QVERIFY(!fifo && fifo.error().problem == Problem::notASession);
  const auto exists = SessionFile::open(path, Mode::create);
  QVERIFY(!exists && exists.error().problem == Problem::refused);
  const auto nowhere = SessionFile::open(folder / "no/folder.winnow", Mode::create);
  QVERIFY(!nowhere);
  QVERIFY2(nowhere.error().message.find("there is no folder") != std::string::npos, nowhere.error().message.c_str());
}

// A file of format 1 gets the tables of format 2 when it is opened for writing; read-only, it is read as it is.
void TroubleTest::attributionsOfTheFirstFormat() {
  Folder folder;
  const std::string path = folder / "old.winnow";
  {
    Db db(path, Db::Access::create);
    db.exec("PRAGMA application_id = 1464749655; PRAGMA user_version = 1");
    db.exec(schemaSql(1));
    db.exec("INSERT INTO session(session_id, uuid, created_utc_us) VALUES(1, 'u', 0)");
    insertRun(db, {1, "uuid1", 1'000'000}, newRun());
    db.exec("INSERT INTO attribution VALUES(1, 'loo', 'sentence', 'A.', 'q', 'r', -1, 0, 2, 20, 5, 1); "
            "INSERT INTO attribution_source VALUES(1, 0, 0, 2, 'A.', 0.5, NULL)");
    finishRun(db, 1, RunStatus::done, "", 3'000'000);
  }
  const std::string before = bytesOf(path);
  OpenReport report;
  Session session = opened(path, Mode::readOnly, &report);
  QVERIFY(session && report.readOnly);
  QVERIFY((*session->attribution(1))->sources[0].score == 0.5 && (*session->attribution(1))->notes.empty() && session->outcomes(1)->empty());
  REQUIRE_OK(session->close());
  QVERIFY(bytesOf(path) == before);
  session = opened(path, Mode::open, &report);
  QVERIFY2(session && !session->readOnly(), report.readOnlyReason.c_str());
  QCOMPARE((*session->attribution(1))->sources.size(), size_t{1});
  const Id id = *session->beginRun(newRun());
  AttributionRecord a;
  a.method = "loo";
  a.notes = {"new"};
  session->setAttribution(id, a);
  REQUIRE_OK(session->close());
  session = opened(path, Mode::open, &report);
  QVERIFY((*session->attribution(id))->notes == a.notes);
  REQUIRE_OK(session->close());
  QCOMPARE(Db(path, Db::Access::readOnly).integer("PRAGMA user_version"), int64_t{kFormatVersion});
}

void TroubleTest::newerFormats() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  Session session = opened(path, Mode::create);
  const Id id = *session->beginRun(newRun());
  session->addTokens(id, {token(0)});
  REQUIRE_OK(session->close());
  { Db(path, Db::Access::readWrite).exec("PRAGMA user_version = " + std::to_string(kFormatVersion + 1) + "; ALTER TABLE run ADD COLUMN mood TEXT; CREATE TABLE more(x)"); }
  const std::string before = bytesOf(path);
  OpenReport report;
  session = opened(path, Mode::open, &report);
  QVERIFY(session && session->readOnly() && report.readOnly);
  QVERIFY2(report.readOnlyReason.find("newer Winnow (format " + std::to_string(kFormatVersion + 1)) != std::string::npos, report.readOnlyReason.c_str());
  QCOMPARE(session->tokens(id)->size(), size_t{1});
  QVERIFY(!session->beginRun(newRun()));
  session->setName(id, "ignored");
  REQUIRE_OK(session->close());
  QCOMPARE(bytesOf(path), before);
  { Db(path, Db::Access::readWrite).exec("ALTER TABLE token_sample RENAME COLUMN idx TO position"); }
  refused(path, Problem::newer, "newer Winnow");
}

// A file of an older format is read as it is, and brought up to date when it is opened for writing: then nothing tells it from a new one.
void TroubleTest::olderFormats_data() {
  QTest::addColumn<int>("format");
  for (int format = 1; format < kFormatVersion; ++format) QTest::newRow(std::to_string(format).c_str()) << format;
}

void TroubleTest::olderFormats() {
  QFETCH(int, format);
  Folder folder;
  const std::string path = folder / "old.winnow";
  {
    Db db(path, Db::Access::create);
    db.exec("PRAGMA application_id = " + std::to_string(kApplicationId) + "; PRAGMA user_version = " + std::to_string(format));
    db.exec(schemaSql(format));
    db.exec("INSERT INTO session(session_id, uuid, created_utc_us) VALUES(1, 'u', 0)");
    NewRun run = newRun();
    insertRun(db, {1, "run", 1'000'000}, run);
    db.exec("INSERT INTO token_sample(run_id, idx, phase, token_id, t_ns, dur_ns, nll, kv_live, kv_evicted, kv_bytes, epoch, piece) "
            "VALUES(1, 0, 1, 7, 10, 20, 1.5, 3, 0, 64, 0, x'20')");
    finishRun(db, 1, RunStatus::done, "", 2'000'000);
  }
  const std::string before = bytesOf(path);
  {
    const Session reading = opened(path, Mode::readOnly);
    QVERIFY(reading);
    const auto tokens = *reading->tokens(1);
    QCOMPARE(tokens.size(), size_t{1});
    QCOMPARE(*tokens[0].nll, 1.5);
    QVERIFY(!tokens[0].joules);
    QVERIFY(reading->retrieval(1) && reading->retrieval(1)->empty());
    REQUIRE_OK(reading->close());
  }
  QCOMPARE(bytesOf(path), before);
  Session session = opened(path, Mode::open);
  QVERIFY(session && !session->readOnly());
  QVERIFY(!session->tokens(1)->front().joules);
  const Id id = *session->beginRun(newRun());
  TokenSample sample = token(0);
  sample.joules = 0.75;
  session->addTokens(id, {sample});
  REQUIRE_OK(session->flush());
  QCOMPARE(*session->tokens(id)->front().joules, 0.75);
  REQUIRE_OK(session->close());
  session = opened(path, Mode::open);  // and passes the check of a file of the present format
  QVERIFY(session && !session->readOnly());
  REQUIRE_OK(session->close());
  Db fresh(":memory:", Db::Access::create), grown(path, Db::Access::readOnly);
  fresh.exec(schemaSql());
  const std::string sql = "SELECT group_concat(name || sql, char(10)) FROM (SELECT * FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name)";
  QCOMPARE(grown.value(sql), fresh.value(sql));
  QCOMPARE(grown.integer("PRAGMA user_version"), int64_t{kFormatVersion});
}

void TroubleTest::diskFills() {
  Folder folder;
  FailingDisk disk("full");
  const std::string path = folder / "x.winnow";
  Session session = opened(path, Mode::create, nullptr, on("full"));
  QVERIFY(session);
  const Id id = *session->beginRun(newRun());
  session->addTokens(id, {token(0)});
  REQUIRE_OK(session->flush());
  disk.full = true;
  for (int i = 1; i <= 100; ++i) session->addTokens(id, {token(i)});
  const auto begin = std::chrono::steady_clock::now();
  const Status flushed = session->flush();  // answers, does not wait for space
  QVERIFY(!flushed && flushed.error().problem == Problem::full);
  QVERIFY(flushed.error().message.find("the disk is full") != std::string::npos);
  QVERIFY(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
  QVERIFY(session->writerState().degraded);
  QCOMPARE(session->writerState().queued, int64_t{100});
  QCOMPARE(session->writerState().problem, flushed.error().message);
  QCOMPARE(session->tokens(id)->size(), size_t{1});
  const Status closed = session->close();
  QVERIFY(!closed);
  QCOMPARE(session->tokens(id)->size(), size_t{1});  // still open
  QVERIFY(!session->deleteRuns({id}));
  disk.full = false;  // somebody made room: it goes on by itself
  QTRY_VERIFY_WITH_TIMEOUT(!session->writerState().degraded, 5000);
  REQUIRE_OK(session->flush());
  QCOMPARE(session->tokens(id)->size(), size_t{101});
  QCOMPARE(session->writerState().dropped, int64_t{0});
  QCOMPARE(session->events(id)->at(0).code, std::string("storage.delayed"));
  session->finishRun(id, RunStatus::done);
  REQUIRE_OK(session->close());
  sound(path);
}

void TroubleTest::diskFullForEver() {
  Folder folder;
  FailingDisk disk("full");
  const std::string path = folder / "x.winnow";
  SessionOptions options = on("full");
  options.queueBytes = 400'000;
  Session session = opened(path, Mode::create, nullptr, options);
  const Id id = *session->beginRun(newRun());
  REQUIRE_OK(session->flush());
  disk.full = true;
  int64_t posted = 0;
  for (; posted < 5000; ++posted) {
    session->addTokens(id, {token(posted)});
    session->addMemory(id, {{posted, "kv", posted}});
  }
  session->finishRun(id, RunStatus::done);
  QVERIFY(!session->flush());
  // Bounded, counted; tokens outlast the memory samples.
  const WriterState state = session->writerState();
  QVERIFY(state.dropped > 0 && state.queued > 0);
  QCOMPARE(state.dropped + state.queued, 2 * posted + 1);
  // Another place takes what is in the file and what waits in memory.
  disk.full = false;
  disk.failForEver = true;
  disk.failAt = 1;
  QVERIFY(!session->saveCopy(folder / "never.winnow"));
  QVERIFY(!QFile::exists(QString::fromStdString(folder / "never.winnow")));
  disk.failAt = 0;
  disk.failForEver = false;
  REQUIRE_OK(session->saveCopy(folder / "rescued.winnow"));
  Session rescued = opened(folder / "rescued.winnow", Mode::open);
  const auto tokens = *rescued->tokens(id);
  const auto memory = *rescued->memory(id);
  QVERIFY(tokens.size() > memory.size() && !memory.empty());
  QCOMPARE(rescued->run(id)->status, RunStatus::done);
  QVERIFY(!rescued->events(id)->empty());
  disk.full = true;
  session.reset();  // gives up what could not be written, and neither hangs nor crashes
  disk.full = false;
  OpenReport report;
  session = opened(path, Mode::open, &report, on("full"));  // the claim left behind is our own
  QVERIFY(session && !session->readOnly());
  session.reset();
  sound(path);
}

// The n-th change to the disk fails, for every n, once and for ever: each call answers, and the file stays sound.
void TroubleTest::anyOperationFails() {
  const auto scenario = [](const std::string& path, Id& acknowledged) {
    auto opening = openSession(path, Mode::openOrCreate, nullptr, on("failing"));
    if (!opening || (*opening)->readOnly()) return;
    SessionFile& session = **opening;
    for (int r = 0; r < 2; ++r) {
      const auto id = session.beginRun(newRun());
      if (!id) return;
      session.addTokens(*id, {token(0), token(1)});
      session.finishRun(*id, RunStatus::done);
      if (session.flush()) acknowledged = *id;
    }
    (void)session.saveCopy(path + ".copy");
    (void)session.close();
  };
  FailingDisk disk("failing");
  int total = 0;
  {
    Folder folder;
    Id acknowledged = 0;
    scenario(folder / "x.winnow", acknowledged);
    QCOMPARE(acknowledged, Id{2});
    total = disk.changes;
    QVERIFY(total > 40);
  }
  int interrupted = 0;
  for (const bool forEver : {false, true}) {
    for (int n = 1; n <= total; n += (n < 60 || n > total - 30) ? 1 : 3) {
      Folder folder;
      const std::string path = folder / "x.winnow";
      Id acknowledged = 0;
      disk.failForEver = forEver;
      disk.failAt = n;
      scenario(path, acknowledged);
      disk.failAt = 0;
      if (!QFile::exists(QString::fromStdString(path))) {
        QCOMPARE(acknowledged, Id{0});
        ++interrupted;
        continue;
      }
      Session session = opened(path, Mode::open);
      QVERIFY2(session && !session->readOnly(), qPrintable(QString::number(n)));
      for (Id id = 1; id <= acknowledged; ++id) {
        QCOMPARE(session->run(id)->status, RunStatus::done);
        QCOMPARE(session->tokens(id)->size(), size_t{2});
      }
      REQUIRE_OK(session->close());
      sound(path);
    }
  }
  QVERIFY(interrupted > 0);
}

void TroubleTest::readOnlyFileAndFolder() {
  Folder folder;
  FailingDisk disk("readonly");
  const std::string path = folder / "x.winnow";
  Session session = opened(path, Mode::create);
  const Id id = *session->beginRun(newRun());
  session->addTokens(id, {token(0)});
  REQUIRE_OK(session->close());
  disk.readOnly = true;
  OpenReport report;
  session = opened(path, Mode::open, &report, on("readonly"));
  QVERIFY(session && session->readOnly() && report.readOnly);
  QCOMPARE(report.readOnlyReason, std::string("the file is read-only"));
  QCOMPARE(session->tokens(id)->size(), size_t{1});
  QCOMPARE(session->run(id)->status, RunStatus::running);  // nothing is rewritten
  const auto refusedRun = session->beginRun(newRun());
  QVERIFY(!refusedRun && refusedRun.error().problem == Problem::readOnly);
  session->addTokens(id, {token(1)});
  REQUIRE_OK(session->flush());
  QVERIFY(!session->addSweep({}));
  QVERIFY(!session->deleteRuns({id}));
  session.reset();
  const auto created = openSession(folder / "new.winnow", Mode::create, nullptr, on("readonly"));
  QVERIFY(!created);
  // A file that was left in WAL mode, in such a folder: read as it stands, and said so.
  disk.readOnly = false;
  { Db(path, Db::Access::readWrite).exec("PRAGMA journal_mode = WAL"); }
  disk.readOnly = true;
  session = opened(path, Mode::readOnly, &report, on("readonly"));
  QVERIFY(session);
  QCOMPARE(session->tokens(id)->size(), size_t{1});
  session.reset();
  session = opened(path, Mode::readOnly, &report);
  QVERIFY(session);
  QCOMPARE(report.readOnlyReason, std::string("it was opened for reading"));
  REQUIRE_OK(session->saveCopy(folder / "copy.winnow"));
  QVERIFY(!opened(folder / "copy.winnow", Mode::open)->readOnly());
}

void TroubleTest::locked() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  REQUIRE_OK(opened(path, Mode::create)->close());
  Db other(path, Db::Access::readWrite);
  other.exec("BEGIN EXCLUSIVE");
  auto session = openSession(path, Mode::open, nullptr, on(""));
  QVERIFY(!session);
  QCOMPARE(session.error().problem, Problem::locked);
  other.exec("COMMIT");
  other.exec("BEGIN IMMEDIATE");  // a writer that lets others read
  OpenReport report;
  Session reading = opened(path, Mode::open, &report, on(""));
  QVERIFY(reading && reading->readOnly());
  QVERIFY(report.readOnlyReason.find("locked") != std::string::npos);
  reading.reset();
  other.exec("COMMIT");
  // Locked while we hold it: the samples wait, and arrive.
  Session ours = opened(path, Mode::open, nullptr, on(""));
  const Id id = *ours->beginRun(newRun());
  REQUIRE_OK(ours->flush());
  other.exec("BEGIN IMMEDIATE");
  ours->addTokens(id, {token(0)});
  const Status flushed = ours->flush();
  QVERIFY(!flushed && flushed.error().problem == Problem::locked);
  other.exec("COMMIT");
  QTRY_VERIFY_WITH_TIMEOUT(!ours->writerState().degraded, 5000);
  REQUIRE_OK(ours->flush());
  QCOMPARE(ours->tokens(id)->size(), size_t{1});
}

void TroubleTest::deletedWhileOpen() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  Session session = opened(path, Mode::create, nullptr, on(""));
  const Id id = *session->beginRun(newRun());
  session->addTokens(id, {token(0)});
  REQUIRE_OK(session->flush());
  QVERIFY(QFile::remove(QString::fromStdString(path)));
  session->addTokens(id, {token(1)});
  const Status flushed = session->flush();
  QVERIFY(!flushed);
  QVERIFY2(flushed.error().message.find("deleted") != std::string::npos, flushed.error().message.c_str());
  QVERIFY(session->writerState().degraded);
  session->addTokens(id, {token(2)});
  REQUIRE_OK(session->saveCopy(folder / "saved.winnow"));
  QVERIFY(!session->close());
  QCOMPARE(opened(folder / "saved.winnow", Mode::open)->tokens(id)->size(), size_t{3});
}

void TroubleTest::twoProcesses() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  int toParent[2], toChild[2];
  QVERIFY(pipe(toParent) == 0 && pipe(toChild) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char c = 0;
    auto session = SessionFile::open(path, Mode::create);
    if (!session) _exit(1);
    const auto id = (*session)->beginRun(newRun());
    (*session)->addTokens(*id, {token(0)});
    if (!(*session)->flush()) _exit(2);
    if (write(toParent[1], "x", 1) != 1 || read(toChild[0], &c, 1) != 1) _exit(3);
    (*session)->addTokens(*id, {token(1)});
    if (!(*session)->flush()) _exit(4);
    if (write(toParent[1], "x", 1) != 1 || read(toChild[0], &c, 1) != 1) _exit(5);
    (void)(*session)->close();
    _exit(0);
  }
  char c = 0;
  QCOMPARE(read(toParent[0], &c, 1), ssize_t{1});
  OpenReport report;
  Session second = opened(path, Mode::open, &report);
  QVERIFY(second && second->readOnly());
  QVERIFY2(report.readOnlyReason.find("process " + std::to_string(child)) != std::string::npos, report.readOnlyReason.c_str());
  QCOMPARE(second->tokens(1)->size(), size_t{1});
  QCOMPARE(second->run(1)->status, RunStatus::running);  // it is: not ours to interrupt
  QCOMPARE(write(toChild[1], "x", 1), ssize_t{1});
  QCOMPARE(read(toParent[0], &c, 1), ssize_t{1});
  QCOMPARE(second->tokens(1)->size(), size_t{2});  // what the other commits is seen
  QCOMPARE(write(toChild[1], "x", 1), ssize_t{1});
  int status = 0;
  QCOMPARE(waitpid(child, &status, 0), child);
  QVERIFY(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  QCOMPARE(second->tokens(1)->size(), size_t{2});
  second.reset();
  second = opened(path, Mode::open);
  QVERIFY(!second->readOnly());
  for (const int fd : {toParent[0], toParent[1], toChild[0], toChild[1]}) ::close(fd);
}

void TroubleTest::ownerOfTheDead() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  const auto claim = [&](const std::string& values) {
    QFile::remove(QString::fromStdString(path));
    REQUIRE_OK(opened(path, Mode::create)->close());
    Db(path, Db::Access::readWrite).exec("INSERT INTO owner VALUES(1," + values + ")");
  };
  std::string boot;
  {
    QFile file(QStringLiteral("/proc/sys/kernel/random/boot_id"));
    QVERIFY(file.open(QIODevice::ReadOnly));
    boot = file.readAll().trimmed().toStdString();
  }
  const std::string now = std::to_string(utcMicroseconds()), self = std::to_string(getpid()), parent = std::to_string(getppid());
  claim("999999999,0,'" + boot + "','h','t',0," + now);  // no such process
  QVERIFY(!opened(path, Mode::open)->readOnly());
  claim(parent + ",1,'" + boot + "','h','t',0," + now);  // its number was given to another process
  QVERIFY(!opened(path, Mode::open)->readOnly());
  claim(parent + ",0,'" + boot + "','h','t',0," + now);  // alive
  QVERIFY(opened(path, Mode::open)->readOnly());
  claim(parent + ",0,'another boot',(SELECT 'h'),'t',0," + now);  // another machine, heard of just now
  QVERIFY(opened(path, Mode::open)->readOnly());
  claim(parent + ",0,'another boot','h','t',0,1000");  // silent for long
  QVERIFY(!opened(path, Mode::open)->readOnly());
  claim(self + ",0,'" + boot + "','h','t',0," + now);  // left by a close of ours that failed
  QVERIFY(!opened(path, Mode::open)->readOnly());
}

void TroubleTest::openTwiceInOneProcess() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  Session first = opened(path, Mode::create);
  Session second = opened(path, Mode::open);
  QVERIFY(!first->readOnly() && second && second->readOnly());
  second.reset();
  first.reset();
  QVERIFY(!opened(path, Mode::open)->readOnly());
}

QTEST_GUILESS_MAIN(TroubleTest)
#include "trouble.moc"
