// SPDX-License-Identifier: GPL-3.0-or-later
// The rates a session must keep up with. The floors are generous: they catch a lost index or a commit per row, not a slow machine.
#include <chrono>
#include <cstdio>

#include "storage/read.h"
#include "storage/write.h"
#include "tests/storage/support.h"

using namespace winnow::storage;
using namespace winnow::storage::test;

namespace {

double secondsOf(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

class SpeedTest : public QObject {
  Q_OBJECT

 private Q_SLOTS:
  void samplesPerSecond();
  void postingNeverWaits();
  void tenThousandRuns();
};

// One call per token with one token and its memory, as the engine thread does it.
void SpeedTest::samplesPerSecond() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id id = *session->beginRun(newRun());
  constexpr int tokens = 150'000;
  const double seconds = secondsOf([&] {
    for (int i = 0; i < tokens; ++i) {
      session->addTokens(id, {token(i)});
      if (i % 2 == 0) session->addMemory(id, {{i, "kv", i}});
      while (i % 1024 == 0 && session->writerState().queued > 50'000) QTest::qSleep(1);
    }
    QVERIFY(session->flush());
  });
  const WriterState state = session->writerState();
  QCOMPARE(state.dropped, int64_t{0});
  QCOMPARE(session->run(id)->tokens, int64_t{tokens});
  const double rate = 1.5 * tokens / seconds;
  std::printf("%.0f samples/s committed, one per call\n", rate);
  const double reading = secondsOf([&] { QCOMPARE(session->tokens(id)->size(), size_t{tokens}); });
  std::printf("%.0f samples/s read\n", tokens / reading);
  QVERIFY2(rate > 30'000, qPrintable(QString::number(rate)));
  QVERIFY2(tokens / reading > 100'000, qPrintable(QString::number(reading)));
}

// The caller's cost, with the disk busy: the engine must not feel the commits.
void SpeedTest::postingNeverWaits() {
  Folder folder;
  SessionOptions small;
  small.queueBytes = 1 << 20;
  Session session = opened(folder / "s.winnow", Mode::create, nullptr, small);
  const Id id = *session->beginRun(newRun());
  constexpr int calls = 60'000;
  const double seconds = secondsOf([&] {
    for (int i = 0; i < calls; ++i) session->addTokens(id, {token(i)});
  });
  std::printf("%.2f us a call into a queue that overflows\n", seconds / calls * 1e6);
  session->finishRun(id, RunStatus::done);
  REQUIRE_OK(session->flush());
  const WriterState state = session->writerState();
  const auto stored = static_cast<int64_t>(session->tokens(id)->size());
  QCOMPARE(stored + state.dropped, int64_t{calls});
  QVERIFY(state.dropped > 0);
  // What was dropped is in the run's events, and adds up; the end of the run was not lost.
  int64_t told = 0;
  for (const EventRecord& event : *session->events(id)) {
    QCOMPARE(event.code, std::string("storage.dropped"));
    told += std::stoll(event.text);
  }
  QCOMPARE(told, state.dropped);
  QCOMPARE(session->run(id)->status, RunStatus::done);
  QVERIFY2(seconds / calls < 100e-6, qPrintable(QString::number(seconds)));
}

void SpeedTest::tenThousandRuns() {
  Folder folder;
  const std::string path = folder / "s.winnow";
  Session session = opened(path, Mode::create);
  std::vector<Metric> metrics;
  for (const char* name :
       {"perplexity", "kld_mean", "ms_per_token", "memory_peak", "prefill_ms", "top1", "bits_per_byte", "tokens", "a", "b"})
    metrics.push_back({name, "u", "lower", 3, 1.5, 0.1});
  for (int i = 0; i < 10'000; ++i) {
    NewRun run = newRun();
    run.requested = run.effective = config(i % 200);
    const Id id = *session->beginRun(run);
    session->setMetrics(id, metrics);
    session->addTokens(id, {token(0), token(1)});
    session->finishRun(id, RunStatus::done);
  }
  REQUIRE_OK(session->flush());
  double best = 1e9;
  for (int round = 0; round < 5; ++round)
    best = std::min(best, secondsOf([&] { QCOMPARE(session->runs()->size(), size_t{10'000}); }));
  const auto runs = *session->runs();
  QCOMPARE(runs.front().id, Id{10'000});
  QCOMPARE(runs.back().metrics.size(), size_t{10});
  QCOMPARE(runs.back().requested.at("weights.bits"), std::string("0"));
  std::printf("10 000 runs with 10 metrics each listed in %.0f ms\n", best * 1e3);
  QVERIFY2(best < 1.0, qPrintable(QString::number(best)));
  REQUIRE_OK(session->close());
  const double opening = secondsOf([&] { session = opened(path, Mode::open); });
  std::printf("opened in %.0f ms (%lld bytes)\n", opening * 1e3, static_cast<long long>(QFileInfo(QString::fromStdString(path)).size()));
  QVERIFY(opening < 2.0);
  Db db(path, Db::Access::readOnly);
  const double view = secondsOf([&] { QVERIFY(db.integer("SELECT count(perplexity) FROM run_summary") == 10'000); });
  std::printf("view run_summary over all runs in %.0f ms\n", view * 1e3);
  QVERIFY(view < 3.0);
}

QTEST_GUILESS_MAIN(SpeedTest)
#include "speed.moc"
