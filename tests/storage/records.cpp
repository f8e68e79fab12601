// SPDX-License-Identifier: GPL-3.0-or-later
// Every record goes in and comes back equal, and survives closing and opening.
#include <cmath>
#include <limits>

#include "storage/sha256.h"
#include "storage/write.h"
#include "tests/storage/support.h"

using namespace winnow::storage;
using namespace winnow::storage::test;

class RecordsTest : public QObject {
  Q_OBJECT

 private Q_SLOTS:
  void sha256KnowsThePublishedVectors();
  void canonicalJsonIsSortedAndEscaped();
  void runAndSummary();
  void samples();
  void attributionIsReplaced();
  void attributionSaysHowItWasDone();
  void unknownNumbers();
  void sweep();
  void namesNotesBaselineUi();
  void modelHashComesLater();
  void deletingRuns();
  void refusedRunsSayWhy();
  void closedIsOneFile();
  void savesACopy();
};

void RecordsTest::sha256KnowsThePublishedVectors() {
  QCOMPARE(toHex(sha256("")), std::string("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
  QCOMPARE(toHex(sha256("abc")), std::string("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  QCOMPARE(toHex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
           std::string("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"));
  QCOMPARE(toHex(sha256(std::string(1'000'000, 'a'))), std::string("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
  QCOMPARE(fromHex("0aFf"), std::optional<std::string>("\x0a\xff"));
  QVERIFY(!fromHex("abc") && !fromHex("zz"));
}

void RecordsTest::canonicalJsonIsSortedAndEscaped() {
  const std::vector<KnobSetting> settings = {
      {"b", "text", "", std::string("a\"\\\n"), ""}, {"a", "boolean", "", 1.0, ""}, {"c", "real", "", 0.1, ""}};
  const std::string expected = "{\"a\":true,\"b\":\"a\\\"\\\\\\u000a\",\"c\":0.1}";
  QCOMPARE(canonicalJson(settings), expected);
  QCOMPARE(canonicalJson({}), std::string("{}"));
}

void RecordsTest::runAndSummary() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  QVERIFY(session);
  auto id = session->beginRun(newRun());
  REQUIRE_OK(id);
  session->addTokens(*id, {token(0), token(1)});
  session->setMetrics(
      *id, {{"perplexity", "", "lower", 64, 12.5, 0.25, std::nullopt, std::nullopt, 12.0, 13.0}, {"ms_per_token", "ms", "lower", 2, 3.5}});
  session->setOutput(*id, "there was");
  session->updateEffective(*id, config(3), "[]");
  session->finishRun(*id, RunStatus::done);
  REQUIRE_OK(session->flush());
  QVERIFY(session->writerState().lastCommitUs > 0);
  QCOMPARE(session->writerState().queued, int64_t{0});
  QCOMPARE(session->writerState().dropped, int64_t{0});
  REQUIRE_OK(session->close());
  QVERIFY(!session->runs());

  session = opened(folder / "s.winnow", Mode::open);
  auto run = session->run(*id);
  REQUIRE_OK(run);
  QCOMPARE(run->name, std::string("a run"));
  QCOMPARE(run->uuid.size(), size_t{36});
  QCOMPARE(run->status, RunStatus::done);
  QCOMPARE(run->kind, RunKind::generate);
  QCOMPARE(run->model, std::string("tiny"));
  QCOMPARE(run->threads, std::string("2"));
  QCOMPARE(run->protocol, std::string("llama"));
  QCOMPARE(run->corpus, std::string("wiki.txt"));
  QCOMPARE(run->seed, int64_t{42});
  QCOMPARE(run->tokens, int64_t{2});
  QCOMPARE(run->requested.at("weights.bits"), std::string("4"));
  QCOMPARE(run->effective.at("weights.bits"), std::string("3"));
  QCOMPARE(run->requested.at("weights.symmetric"), std::string("true"));
  QCOMPARE(run->requested.at("weights.method"), std::string("rtn"));
  QVERIFY(run->startedUs && run->endedUs && *run->endedUs >= *run->startedUs);
  const Metric& ppl = run->metrics.at("perplexity");
  QCOMPARE(ppl.value, 12.5);
  QCOMPARE(ppl.n, int64_t{64});
  QCOMPARE(*ppl.sd, 0.25);
  QVERIFY(!ppl.p50);
  QCOMPARE(*ppl.ciHigh, 13.0);
  QCOMPARE(*session->prompt(*id), std::string("Once upon a time"));
  QCOMPARE(*session->output(*id), std::string("there was"));
  QCOMPARE(session->environment(*id)->ramBytes, int64_t{1} << 34);
  QCOMPARE(session->run(99).error().problem, Problem::notFound);
  QCOMPARE(session->prompt(99).error().problem, Problem::notFound);
}

void RecordsTest::samples() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id id = *session->beginRun(newRun());
  TokenSample first = token(0);
  first.prefill = true;
  first.nll.reset();
  first.entropy = 1.25;
  first.joules = 0.5;
  first.kvEvicted = 5;
  first.kvBytes = int64_t{1} << 40;
  first.epoch = 2;
  first.piece = std::string("\0\xff", 2);
  session->addTokens(id, {first, token(1)});
  session->addMemory(id, {{0, "kv", 100}, {0, "weights", 200}});
  session->addMemory(id, {{0, "kv", 150}});
  session->addKnobEvents(id, {{3, 33, "weights.bits", "16", "4", "user", "", 1}});
  session->addKnobEvents(id, {{5, 55, "weights.bits", "4", "16", "fallback", "not enough memory", 2}});
  session->addEvents(id, {{7, "warning", "kv.evicted", "12 tokens"}, {8, "info", "x", "y"}});
  session->addWindows(id, {{0, 0, 255, 510.5, 1100.25, 0.125, 250}, {1, 512, 255, 500, 1000, 0, 255}});
  session->addRetrieval(id, {{1, 0, std::nullopt, 90, 2, false, 8.5, std::nullopt, 0, 0, 0}, {0, 512, 0.25, 530, 3, true, 1.5, false, 9.25, 0.125, 2}});
  session->addBench(id, {{"tg64", 1, 64, 0, 0.5, 128}, {"tg64", 0, 64, 0, 0.25, 256}});
  session->addOpStats(id, {{"attend", 3, true, 10, 1000, 90, 110, 4096, 8192}});
  REQUIRE_OK(session->flush());
  const auto tokens = *session->tokens(id);
  QCOMPARE(tokens.size(), size_t{2});
  QVERIFY(tokens[0].prefill && !tokens[1].prefill);
  QVERIFY(!tokens[0].nll);
  QCOMPARE(*tokens[0].entropy, 1.25);
  QCOMPARE(*tokens[0].joules, 0.5);
  QVERIFY(!tokens[1].joules);
  QCOMPARE(tokens[0].kvEvicted, int64_t{5});
  QCOMPARE(tokens[0].kvBytes, int64_t{1} << 40);
  QCOMPARE(tokens[0].epoch, 2);
  QCOMPARE(tokens[0].piece, first.piece);
  QCOMPARE(*tokens[1].nll, 1.5);
  QCOMPARE(tokens[1].token, 7);
  QCOMPARE(tokens[1].tNs, int64_t{1000});
  QCOMPARE(tokens[1].durationNs, int64_t{999});
  const auto memory = *session->memory(id);
  QCOMPARE(memory.size(), size_t{2});
  QCOMPARE(memory[0].tag, std::string("kv"));
  QCOMPARE(memory[0].bytes, int64_t{150});
  const auto knobs = *session->knobEvents(id);
  QCOMPARE(knobs.size(), size_t{2});
  QCOMPARE(knobs[1].cause, std::string("fallback"));
  QCOMPARE(knobs[1].reason, std::string("not enough memory"));
  QCOMPARE(knobs[1].epoch, 2);
  QCOMPARE(knobs[0].oldValue + knobs[0].newValue, std::string("164"));
  const auto events = *session->events(id);
  QCOMPARE(events.size(), size_t{2});
  QCOMPARE(events[0].text, std::string("12 tokens"));
  const auto windows = *session->windows(id);
  QCOMPARE(windows.size(), size_t{2});
  QCOMPARE(windows[0].nllSum, 510.5);
  QCOMPARE(windows[0].nllSquaredSum, 1100.25);
  QCOMPARE(windows[0].kldSum, 0.125);
  QCOMPARE(windows[0].sameTop, 250);
  QCOMPARE(windows[1].firstToken, int64_t{512});
  const auto bench = *session->bench(id);
  QCOMPARE(bench.size(), size_t{2});
  QCOMPARE(bench[0].repetition, 0);
  QCOMPARE(bench[0].tokensPerSecond, 256.0);
  const auto retrieval = *session->retrieval(id);
  QCOMPARE(retrieval.size(), size_t{2});
  QVERIFY(retrieval[0].length == 512 && *retrieval[0].depth == 0.25 && retrieval[0].promptTokens == 530 && retrieval[0].count == 3);
  QVERIFY(retrieval[0].found && !*retrieval[0].baseFound && retrieval[0].nllSum == 1.5 && retrieval[0].baseNllSum == 9.25);
  QVERIFY(retrieval[0].kldSum == 0.125 && retrieval[0].sameTop == 2);
  QVERIFY(!retrieval[1].depth && !retrieval[1].found && !retrieval[1].baseFound && retrieval[1].length == 0);
  const auto ops = *session->opStats(id);
  QCOMPARE(ops.size(), size_t{1});
  QVERIFY(ops[0].op == "attend" && ops[0].layer == 3 && ops[0].prefill && ops[0].n == 10 && ops[0].sumNs == 1000 && ops[0].flops == 8192);
}

void RecordsTest::attributionIsReplaced() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id id = *session->beginRun(newRun());
  QVERIFY(!*session->attribution(id));
  AttributionRecord a;
  a.method = "loo";
  a.unit = "sentence";
  a.context = "A. B.";
  a.response = "yes";
  a.baseLogProb = -3.5;
  a.sources = {{0, 0, 2, "A.", std::nullopt, {}}, {1, 3, 5, "B.", 0.75, {0.5F, -0.25F}}};
  session->setAttribution(id, a);
  a.complete = true;
  a.forwards = 3;
  a.sources[0].score = -0.125;
  a.sources.push_back({2, 5, 6, "C", 0.0, {}});
  session->setAttribution(id, a);
  REQUIRE_OK(session->flush());
  const auto got = *session->attribution(id);
  QVERIFY(got && got->complete);
  QCOMPARE(got->forwards, int64_t{3});
  QCOMPARE(got->baseLogProb, -3.5);
  QCOMPARE(got->sources.size(), size_t{3});
  QCOMPARE(*got->sources[0].score, -0.125);
  QCOMPARE(got->sources[1].perToken, (std::vector<float>{0.5F, -0.25F}));
  QCOMPARE(got->sources[1].text, std::string("B."));
  QVERIFY(got->tricks.empty() && got->notes.empty() && !got->comparedWith && !got->sources[0].standardError);
}

void RecordsTest::attributionSaysHowItWasDone() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id id = *session->beginRun(newRun());
  AttributionRecord a;
  a.method = "attribot";
  a.unit = "window";
  a.sources = {{0, 0, 2, "A.", -0.5, {}}, {1, 3, 5, "B.", 0.75, {}}};
  a.sources[1].standardError = 0.25;
  a.sources[1].ablatedLogProb = -4;
  a.sources[1].label = "Second";
  a.tricks = "reuse,hierarchy";
  a.proxy = "/models/small.gguf";
  a.responseTokens = {7, -1, 2000000};
  a.responseEnds = {1, 4, int64_t{1} << 40};
  a.spanFirst = 1;
  a.spanLast = 3;
  a.proxyForwards = 5;
  a.proxyTokens = 500;
  a.knownForwards = 2;
  a.parameterTokens = 1.5e12;
  a.passages = 10;
  a.dropped = 3;
  a.supporting = {0, 4};
  a.samples = 64;
  a.seed = 9;
  a.confidence = 0.875;
  a.comparedWith = 1;
  a.notes = {"one", "two"};
  a.levelsJson = R"([{"unit":"paragraph"}])";
  session->setAttribution(id, a);
  a.notes = {"three"};  // what was there before goes
  a.sources[1].label = "Last";
  session->setAttribution(id, a);
  session->addOutcomes(id, {{"target", {true, true}, {-0.5, -1.25, -3}, 11}, {"noise", {true, false}, {}, 0}});
  session->addOutcomes(id, {{"proxy", {false, true}, {-2}, 4}, {"nobody", {true}, {-1}, 1}});  // the last is refused
  REQUIRE_OK(session->flush());
  const auto got = *session->attribution(id);
  QVERIFY(got && got->tricks == a.tricks && got->proxy == a.proxy && got->responseTokens == a.responseTokens && got->responseEnds == a.responseEnds);
  QVERIFY(got->spanFirst == 1 && got->spanLast == 3 && got->proxyForwards == 5 && got->proxyTokens == 500 && got->knownForwards == 2);
  QVERIFY(got->parameterTokens == a.parameterTokens && got->passages == 10 && got->dropped == 3 && got->supporting == a.supporting && got->samples == 64 && got->seed == 9);
  QVERIFY(got->confidence == a.confidence && got->comparedWith == a.comparedWith && got->notes == a.notes && got->levelsJson == a.levelsJson);
  QVERIFY(!got->sources[0].standardError && got->sources[1].standardError == 0.25 && got->sources[1].ablatedLogProb == -4.0 && got->sources[1].label == "Last");
  const auto outcomes = *session->outcomes(id);
  QCOMPARE(outcomes.size(), size_t{3});
  QVERIFY(outcomes[0].origin == "target" && outcomes[0].keep == (std::vector<bool>{true, true}) && outcomes[0].logProbs == (std::vector<double>{-0.5, -1.25, -3}) && outcomes[0].tokensFed == 11);
  QVERIFY(outcomes[1].logProbs.empty() && outcomes[2].origin == "proxy" && outcomes[2].keep == (std::vector<bool>{false, true}));
}

void RecordsTest::unknownNumbers() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id id = *session->beginRun(newRun());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  TokenSample t = token(0);
  t.nll = nan;
  session->addTokens(id, {t});
  session->addWindows(id, {{0, 0, 10, nan, nan, infinity, 0}});
  session->setMetrics(id, {{"perplexity", "", "", 1, nan}});
  REQUIRE_OK(session->flush());
  QCOMPARE(session->writerState().dropped, int64_t{0});
  QVERIFY(!session->tokens(id)->at(0).nll);
  QVERIFY(std::isnan(session->windows(id)->at(0).nllSum));
  QCOMPARE(session->windows(id)->at(0).kldSum, infinity);
  QVERIFY(std::isnan(session->run(id)->metrics.at("perplexity").value));
}

void RecordsTest::sweep() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  SweepRecord sweep;
  sweep.name = "bits";
  sweep.planJson = R"({"winnow_plan":1})";
  for (int i = 0; i < 4; ++i)
    sweep.points.push_back({i, i / 2, config(i % 2 ? 4 : 16), R"({"kind":"bench"})", PointState::todo, std::nullopt, ""});
  const Id id = *session->addSweep(sweep);
  NewRun run = newRun();
  run.sweep = id;
  run.sweepOrdinal = 0;
  const Id done = *session->beginRun(run);
  session->setPoint(id, 0, PointState::running, done);
  session->finishRun(done, RunStatus::done);
  session->setPoint(id, 0, PointState::done, done);
  session->setPoint(id, 1, PointState::skipped, std::nullopt, "not enough memory");
  run.sweepOrdinal = 2;
  const Id half = *session->beginRun(run);
  session->setPoint(id, 2, PointState::running, half);
  REQUIRE_OK(session->flush());
  QCOMPARE(*session->run(done)->sweep, id);
  // The session ends here without the third point being finished: it is to be done again.
  session.reset();
  OpenReport report;
  session = opened(folder / "s.winnow", Mode::open, &report);
  QCOMPARE(report.interrupted, std::vector<Id>{half});
  const auto sweeps = *session->sweeps();
  QCOMPARE(sweeps.size(), size_t{1});
  QCOMPARE(sweeps[0].name, std::string("bits"));
  QCOMPARE(sweeps[0].planJson, sweep.planJson);
  const auto& points = sweeps[0].points;
  QCOMPARE(points.size(), size_t{4});
  QVERIFY(points[0].state == PointState::done && points[0].run == done);
  QVERIFY(points[1].state == PointState::skipped && points[1].note == "not enough memory");
  QVERIFY(points[2].state == PointState::todo && !points[2].run);
  QCOMPARE(points[3].repeat, 1);
  QCOMPARE(points[3].specJson, sweep.points[3].specJson);
  QCOMPARE(std::get<double>(points[3].config.settings.at(0).value), 4.0);
  QVERIFY(!points[3].config.canonicalJson.empty());
}

void RecordsTest::namesNotesBaselineUi() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id a = *session->beginRun(newRun("a")), b = *session->beginRun(newRun("b"));
  session->finishRun(a, RunStatus::failed, "out of memory");
  session->setName(a, "renamed");
  session->setNotes(a, "why");
  session->setBaseline(a);
  session->setBaseline(b);
  const std::string view = R"({"view":"live"})";
  session->setUi(view);
  REQUIRE_OK(session->flush());
  const auto runs = *session->runs();
  QCOMPARE(runs.size(), size_t{2});
  QCOMPARE(runs[0].id, b);  // newest first
  QVERIFY(runs[0].baseline && !runs[1].baseline);
  QCOMPARE(runs[1].name, std::string("renamed"));
  QCOMPARE(runs[1].notes, std::string("why"));
  QCOMPARE(runs[1].status, RunStatus::failed);
  QCOMPARE(runs[1].errorText, std::string("out of memory"));
  QCOMPARE(*session->ui(), view);
  session->setBaseline(std::nullopt);
  REQUIRE_OK(session->flush());
  QVERIFY(!session->run(b)->baseline);
}

void RecordsTest::modelHashComesLater() {
  Folder folder;
  const std::string path = folder / "s.winnow";
  Session session = opened(path, Mode::create);
  const Id a = *session->beginRun(newRun());
  session->finishRun(a, RunStatus::done);
  const std::string hash(64, 'a'), other(64, 'b');
  session->setModelHash("/models/tiny.gguf", hash);
  *session->beginRun(newRun());
  REQUIRE_OK(session->flush());
  session->setModelHash("/models/tiny.gguf", other);
  REQUIRE_OK(session->flush());
  QVERIFY(session->writerState().problem.find("the hash of a model is final") != std::string::npos);
  REQUIRE_OK(session->close());
  Db db(path, Db::Access::readOnly);
  QCOMPARE(db.integer("SELECT count(*) FROM model"), int64_t{1});
  QCOMPARE(db.value("SELECT lower(hex(sha256)) FROM model WHERE verified"), hash);
}

void RecordsTest::deletingRuns() {
  Folder folder;
  const std::string path = folder / "s.winnow";
  Session session = opened(path, Mode::create);
  const Id a = *session->beginRun(newRun()), b = *session->beginRun(newRun());
  for (const Id id : {a, b}) {
    session->addTokens(id, {token(0)});
    session->setAttribution(id, {"loo", "sentence", "c", "q", "r", 0, 0, 0, 0, 0, true, {{0, 0, 1, "c", 1.0, {}}}});
    session->setMetrics(id, {{"perplexity", "", "lower", 1, 2}});
  }
  session->finishRun(a, RunStatus::done);
  auto refused = session->deleteRuns({a, b});
  QVERIFY(!refused && refused.error().problem == Problem::refused);
  QCOMPARE(session->runs()->size(), size_t{2});
  QCOMPARE(*session->deleteRuns({a, 77}), 1);
  QCOMPARE(session->runs()->size(), size_t{1});
  session->finishRun(b, RunStatus::cancelled);
  QCOMPARE(*session->deleteRuns({b}), 1);
  REQUIRE_OK(session->close());
  Db db(path, Db::Access::readOnly);
  for (const char* table : {"run", "token_sample", "attribution", "attribution_source", "run_metric", "prompt"})
    QCOMPARE(db.integer(std::string("SELECT count(*) FROM ") + table), int64_t{0});
}

void RecordsTest::refusedRunsSayWhy() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  NewRun run = newRun();
  run.specJson = "{";
  auto id = session->beginRun(run);
  QVERIFY(!id && id.error().problem == Problem::refused && id.error().message.find("specification") != std::string::npos);
  // A sample of a run that does not exist is counted and named; the others are stored.
  const Id good = *session->beginRun(newRun());
  session->addTokens(4711, {token(0)});
  session->addTokens(good, {token(0), token(0), token(1)});
  REQUIRE_OK(session->flush());
  QCOMPARE(session->writerState().dropped, int64_t{2});
  QVERIFY(!session->writerState().degraded);
  QCOMPARE(session->tokens(good)->size(), size_t{2});
  QCOMPARE(session->run(good)->tokens, int64_t{2});
  QCOMPARE(session->events(good)->at(0).code, std::string("storage.dropped"));
}

void RecordsTest::closedIsOneFile() {
  Folder folder;
  const std::string path = folder / "s.winnow";
  Session session = opened(path, Mode::create);
  *session->beginRun(newRun());
  REQUIRE_OK(session->flush());
  QVERIFY(QFile::exists(QString::fromStdString(path + "-wal")));
  REQUIRE_OK(session->close());
  REQUIRE_OK(session->close());
  QCOMPARE(QFileInfo(QString::fromStdString(path)).dir().entryList(QDir::Files), QStringList{QStringLiteral("s.winnow")});
  const std::string head = bytesOf(path).substr(0, 100);
  QCOMPARE(head.substr(68, 4), std::string("WNNW"));
  QCOMPARE(head[18], char{1});  // rollback journal, not WAL
  QVERIFY(!session->beginRun(newRun()));
}

void RecordsTest::savesACopy() {
  Folder folder;
  Session session = opened(folder / "s.winnow", Mode::create);
  const Id id = *session->beginRun(newRun());
  session->addTokens(id, {token(0), token(1), token(2)});
  REQUIRE_OK(session->saveCopy(folder / "copy.winnow"));
  const auto again = session->saveCopy(folder / "copy.winnow");
  QVERIFY(!again && again.error().problem == Problem::refused);
  OpenReport report;
  Session copy = opened(folder / "copy.winnow", Mode::open, &report);
  QVERIFY(copy && !copy->readOnly());
  QCOMPARE(report.interrupted, std::vector<Id>{id});
  QCOMPARE(copy->tokens(id)->size(), size_t{3});
  QCOMPARE(session->run(id)->status, RunStatus::running);
  const auto nowhere = session->saveCopy(folder / "no/such/folder.winnow");
  QVERIFY(!nowhere);
}

QTEST_GUILESS_MAIN(RecordsTest)
#include "records.moc"
