// SPDX-License-Identifier: GPL-3.0-or-later
// The rules that the tables keep by themselves, the plans of our statements, and the views a person queries.
#include <sqlite3.h>

#include <cmath>

#include "storage/read.h"
#include "storage/schema.h"
#include "storage/write.h"
#include "tests/storage/support.h"

using namespace winnow::storage;
using namespace winnow::storage::test;

namespace {

bool refuses(Db& db, const std::string& sql, const std::string& why = {}) {
  try {
    db.exec(sql);
    qWarning("accepted: %s", sql.c_str());
    return false;
  } catch (const SqlError& error) {
    if (why.empty() || std::string(error.what()).find(why) != std::string::npos) return error.primary() == SQLITE_CONSTRAINT;
    qWarning("%s: %s", sql.c_str(), error.what());
    return false;
  }
}

std::vector<std::string> planOf(Db& db, const std::string& sql) {
  std::vector<std::string> steps;
  Statement q = db.prepare("EXPLAIN QUERY PLAN " + sql);
  while (q.step()) steps.push_back(q.text(3));
  return steps;
}

}  // namespace

class SchemaTest : public QObject {
  Q_OBJECT

 private Q_SLOTS:
  void init();
  void identity();
  void constraints_data();
  void constraints();
  void oneSessionOneBaseline();
  void finishedRunsAreFrozen_data();
  void finishedRunsAreFrozen();
  void statusesGoOneWay();
  void queriesUseIndexes();
  void views();

 private:
  std::unique_ptr<Db> db_;
};

// A finished run 1 with one of everything, a running run 2.
void SchemaTest::init() {
  db_ = std::make_unique<Db>(":memory:", Db::Access::create);
  Db& db = *db_;
  db.exec("PRAGMA foreign_keys = ON");
  db.exec(schemaSql());
  db.exec("INSERT INTO session(session_id, uuid, created_utc_us) VALUES(1, 'u', 0)");
  Outcome o;
  for (const Id id : {1, 2}) {
    NewRun run = newRun(id == 1 ? "wide" : "narrow");
    run.effective = run.requested = config(id == 1 ? 16 : 4);
    insertRun(db, {id, "uuid" + std::to_string(id), 1'000'000}, run);
    insertTokens(db, id, {token(0)}, o);
    insertMemory(db, id, {{0, "kv", 1}}, o);
    insertKnobEvents(db, id, {{0, 0, "weights.bits", "16", "4", "user", "", 1}}, o);
    insertEvents(db, id, {{0, "info", "c", "t"}}, o);
    insertWindows(db, id, {{0, 0, 10, 10.0, 12.0, 1.0, 9}, {1, 10, 10, 10.0, 12.0, 1.0, 9}}, o);
    insertRetrieval(db, id, {{0, 512, 0.5, 530, 3, true, 1.5, true, 1.25, 0.125, 3}}, o);
    insertBench(db, id, {{"pp512", 0, 512, 0, 1, 512}}, o);
    insertOpStats(db, id, {{"attend", 0, false, 1, 1, 1, 1, 1, 1}}, o);
    insertMetrics(db, id, {{"perplexity", "", "lower", 20, id == 1 ? 10.0 : 12.5}}, o);
    replaceOutput(db, id, "out");
    AttributionRecord attribution{"loo", "sentence", "c", "q", "r", 0, 0, 0, 0, 0, true, {{0, 0, 1, "c", 1.0, {}}}};
    attribution.sources[0].label = "C";
    attribution.notes = {"a note"};
    replaceAttribution(db, id, attribution);
    insertOutcomes(db, id, {{"target", {true}, {-1}, 3}}, o);
  }
  insertSweep(db, 1, {0, "s", "{}", {{0, 0, config(4), "{}", PointState::todo, std::nullopt, ""}}}, 0);
  QCOMPARE(o.refused, int64_t{0});
  finishRun(db, 1, RunStatus::done, "", 3'000'000);
}

void SchemaTest::identity() {
  Folder folder;
  const std::string path = folder / "x.winnow";
  REQUIRE_OK(opened(path, Mode::create)->close());
  Db db(path, Db::Access::readOnly);
  QCOMPARE(db.integer("PRAGMA application_id"), int64_t{1464749655});
  QCOMPARE(db.integer("PRAGMA user_version"), int64_t{kFormatVersion});
  QCOMPARE(db.integer("PRAGMA page_size"), int64_t{8192});
  QCOMPARE(db.integer("SELECT count(*) FROM session"), int64_t{1});
  Statement tables =
      db.prepare("SELECT name, strict FROM pragma_table_list WHERE schema='main' AND type='table' AND name NOT LIKE 'sqlite_%'");
  int count = 0;
  while (tables.step()) {
    QVERIFY2(tables.integer(1) == 1, tables.text(0).c_str());
    ++count;
  }
  QVERIFY(count >= 24);
}

void SchemaTest::constraints_data() {
  QTest::addColumn<QString>("sql");
  const auto add = [](const char* name, const char* sql) { QTest::newRow(name) << QString::fromLatin1(sql); };
  add("text in an integer", "UPDATE run SET seed='many' WHERE run_id=2");
  add("unknown kind", "UPDATE run SET kind='perplexity' WHERE run_id=2");
  add("unknown status", "UPDATE run SET status='paused' WHERE run_id=2");
  add("done without an end", "UPDATE run SET status='done' WHERE run_id=2");
  add("done without an effective configuration", "UPDATE run SET status='done', ended_utc_us=2, effective_config_id=NULL WHERE run_id=2");
  add("a queued run has no start", "UPDATE run SET status='queued' WHERE run_id=2");
  add("a running run has a start", "UPDATE run SET started_utc_us=NULL WHERE run_id=2");
  add("a running run has no end", "UPDATE run SET ended_utc_us=5 WHERE run_id=2");
  add("a point without its sweep", "UPDATE run SET sweep_ordinal=1 WHERE run_id=2");
  add("unknown model", "UPDATE run SET model_id=77 WHERE run_id=2");
  add("number and text", "UPDATE config_value SET txt='x' WHERE num IS NOT NULL");
  add("neither number nor text", "UPDATE config_value SET num=NULL WHERE num IS NOT NULL");
  add("unknown cause", "UPDATE knob_event SET cause='magic' WHERE run_id=2");
  add("unknown level", "UPDATE event SET level='loud' WHERE run_id=2");
  add("unknown phase", "UPDATE token_sample SET phase=2 WHERE run_id=2");
  add("empty window", "UPDATE ppl_window SET n_tokens=0 WHERE run_id=2");
  add("answer without tokens", "UPDATE retrieval_item SET n_tokens=0 WHERE run_id=2");
  add("half found", "UPDATE retrieval_item SET found=2 WHERE run_id=2");
  add("unknown direction", "UPDATE metric SET better='maybe'");
  add("unknown knob type", "UPDATE knob SET type='int_list'");
  add("unknown apply", "UPDATE knob SET apply='live'");
  add("unknown device", "UPDATE device SET kind='tpu'");
  add("short hash", "UPDATE model SET sha256=x'00'");
  add("verified without a hash", "UPDATE model SET verified=1");
  add("other model", "UPDATE model SET path='elsewhere'");
  add("orphan sample", "INSERT INTO memory_sample VALUES(99, 0, 'kv', 1)");
  add("unknown origin", "UPDATE attribution_outcome SET origin='elsewhere' WHERE run_id=2");
  add("orphan source", "INSERT INTO attribution_source VALUES(99, 0, 0, 0, '', 0, NULL)");
  add("sample twice", "INSERT INTO token_sample SELECT * FROM token_sample WHERE run_id=2");
  add("unknown point state", "UPDATE sweep_point SET state='lost'");
  add("point of no sweep", "INSERT INTO sweep_point(sweep_id, ordinal, repeat_no, config_id, state) VALUES(9,0,0,1,'todo')");
}

void SchemaTest::constraints() {
  QFETCH(QString, sql);
  QVERIFY(refuses(*db_, sql.toStdString()));
}

void SchemaTest::oneSessionOneBaseline() {
  QVERIFY(refuses(*db_, "INSERT INTO session(session_id, uuid, created_utc_us) VALUES(2, 'v', 0)"));
  QVERIFY(refuses(*db_, "DELETE FROM session", "exactly one session"));
  db_->exec("UPDATE run SET is_baseline=1 WHERE run_id=1");
  QVERIFY(refuses(*db_, "UPDATE run SET is_baseline=1 WHERE run_id=2"));
}

void SchemaTest::finishedRunsAreFrozen_data() {
  QTest::addColumn<QString>("status");
  for (const char* status : {"done", "failed", "cancelled", "interrupted"}) QTest::newRow(status) << QString::fromLatin1(status);
}

void SchemaTest::finishedRunsAreFrozen() {
  QFETCH(QString, status);
  Db& db = *db_;
  if (status != QLatin1String("done")) {
    db.exec("DROP TRIGGER run_frozen");  // to put run 1 into the other final states
    db.exec("UPDATE run SET status='" + status.toStdString() + "' WHERE run_id=1");
    Db fresh(":memory:", Db::Access::create);
    fresh.exec(schemaSql());
    db.exec(fresh.value("SELECT sql FROM sqlite_schema WHERE name='run_frozen'"));
  }
  Statement columns = db.prepare("SELECT name FROM pragma_table_info('run')");
  int frozen = 0;
  while (columns.step()) {
    const std::string column = columns.text(0);
    if (column == "name" || column == "notes" || column == "is_baseline") {
      db.exec("UPDATE run SET " + column + "=" + column + " WHERE run_id=1");
    } else {
      QVERIFY(refuses(db, "UPDATE run SET " + column + "=" + column + " WHERE run_id=1", "a finished run is immutable"));
      ++frozen;
    }
  }
  QCOMPARE(frozen, 23);
  for (const char* table : {"token_sample", "memory_sample", "knob_event", "event", "ppl_window", "retrieval_item", "bench_repetition", "op_stat",
                            "run_metric", "output", "attribution", "attribution_source", "attribution_detail", "attribution_source_detail",
                            "attribution_note", "attribution_outcome"}) {
    const std::string t = table, why = "the samples of a finished run are immutable";
    QVERIFY(refuses(db, "DELETE FROM " + t + " WHERE run_id=1", why));
    QVERIFY(refuses(db, "UPDATE " + t + " SET run_id=run_id WHERE run_id=1", why));
    QVERIFY(refuses(db, "INSERT OR REPLACE INTO " + t + " SELECT * FROM " + t + " WHERE run_id=1", why));
    QVERIFY(db.integer("SELECT count(*) FROM " + t + " WHERE run_id=2") > 0);
    db.exec("UPDATE " + t + " SET run_id=run_id WHERE run_id=2");
  }
  // The whole run may go, and leaves nothing behind.
  db.exec("DELETE FROM run WHERE run_id=1");
  for (const char* table : {"token_sample", "attribution_source", "attribution_detail", "attribution_outcome", "run_metric", "output"})
    QCOMPARE(db.integer(std::string("SELECT count(*) FROM ") + table + " WHERE run_id=1"), int64_t{0});
}

void SchemaTest::statusesGoOneWay() {
  QVERIFY(refuses(*db_, "UPDATE run SET status='running', ended_utc_us=NULL WHERE run_id=1", "immutable"));
  finishRun(*db_, 2, RunStatus::cancelled, "", 0);  // a clock that went backwards
  QCOMPARE(db_->integer("SELECT ended_utc_us - started_utc_us FROM run WHERE run_id=2"), int64_t{0});
}

void SchemaTest::queriesUseIndexes() {
  for (const auto& queries : {perRunQueries(), listQueries()}) {
    for (const std::string& sql : queries) {
      for (const std::string& step : planOf(*db_, sql)) {
        QVERIFY2(step.find("SCAN") == std::string::npos, (sql + ": " + step).c_str());
        QVERIFY2(step.find("TEMP B-TREE") == std::string::npos, (sql + ": " + step).c_str());
      }
    }
  }
  // Foreign keys that are followed when a run is deleted.
  for (const char* sql :
       {"SELECT 1 FROM run WHERE prompt_id=1", "SELECT 1 FROM sweep_point WHERE run_id=1", "SELECT 1 FROM attribution WHERE run_id=1",
        "SELECT 1 FROM run WHERE status IN('queued','running')", "SELECT 1 FROM sweep_point WHERE state='running'"})
    for (const std::string& step : planOf(*db_, sql))
      QVERIFY2(step.find("INDEX") != std::string::npos || step.find("PRIMARY KEY") != std::string::npos, step.c_str());
}

void SchemaTest::views() {
  Db& db = *db_;
  db.exec("UPDATE run SET is_baseline=1 WHERE run_id=1");
  db.exec("PRAGMA trusted_schema = ON");  // as in the sqlite3 shell
  QCOMPARE(db.value("SELECT requested FROM run_summary WHERE run_id=2"),
           std::string("weights.bits=4 weights.method=rtn weights.symmetric=true"));
  QCOMPARE(db.value("SELECT perplexity FROM run_summary WHERE run_id=1"), std::string("10.0"));
  QCOMPARE(db.value("SELECT seconds FROM run_summary WHERE run_id=1"), std::string("2.0"));
  QCOMPARE(db.value("SELECT model || ' ' || device_name || ' ' || threads FROM run_summary WHERE run_id=1"), std::string("tiny CPU 2"));
  QCOMPARE(db.value("SELECT delta FROM comparison WHERE run_id=2 AND metric='perplexity'"), std::string("2.5"));
  QCOMPARE(db.value("SELECT delta_percent FROM comparison WHERE run_id=2 AND metric='perplexity'"), std::string("25.0"));
  QCOMPARE(db.value("SELECT delta FROM comparison WHERE run_id=1 AND metric='perplexity'"), std::string("0.0"));
  Statement q = db.prepare("SELECT perplexity, n, kld_mean, top1 FROM run_perplexity WHERE run_id=2");
  QVERIFY(q.step());
  QVERIFY(std::fabs(q.real(0) - std::exp(1.0)) < 1e-12);
  QCOMPARE(q.integer(1), int64_t{20});
  QCOMPARE(q.real(2), 0.1);
  QCOMPARE(q.real(3), 0.9);
  QCOMPARE(db.value("SELECT knob || ' ' || requested || ' ' || effective || ' ' || reason FROM config_divergence WHERE run_id=1"),
           std::string("weights.bits 4 8 rows of 12"));
}

QTEST_GUILESS_MAIN(SchemaTest)
#include "schema.moc"
