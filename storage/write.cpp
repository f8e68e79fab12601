// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/write.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "storage/sha256.h"

namespace winnow::storage {

static_assert(std::endian::native == std::endian::little, "float arrays are stored little endian");

namespace {

Blob blob(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

// NULL for an unknown hash; anything that is not 64 hexadecimal digits is refused by the table's check.
void addHash(Statement& statement, const std::string& hex) {
  if (hex.empty()) {
    statement.add(nullptr);
    return;
  }
  const std::string raw = fromHex(hex).value_or(hex);
  statement.add(blob(raw));
}

const std::string& json(Db& db, const std::string& text, const char* what) {
  Query q(db.cached("SELECT json_valid(?)").bind(text));
  if (!q->step() || q->integer(0) != 1)
    throw SqlError(SQLITE_CONSTRAINT_CHECK, std::string("the ") + what + " is not valid JSON: " + text.substr(0, 60));
  return text;
}

template <class Rows, class Insert>
void eachRow(const Rows& rows, Outcome& outcome, Insert insert) {
  for (const auto& row : rows) {
    try {
      insert(row);
      ++outcome.written;
    } catch (const SqlError& error) {
      if (!rowAtFault(error)) throw;
      ++outcome.refused;
      outcome.why = error.what();
    }
  }
}

int64_t knobId(Db& db, const KnobSetting& k) {
  db.run("INSERT OR IGNORE INTO knob(name, type, unit, apply) VALUES(?,?,?,?)", k.name, k.type, k.unit, k.apply);
  Query q(db.cached("SELECT knob_id FROM knob WHERE name=? AND type=? AND unit=? AND apply=?").bind(k.name, k.type, k.unit, k.apply));
  if (!q->step()) throw SqlError(SQLITE_CONSTRAINT_CHECK, "knob " + k.name + " has the unknown type '" + k.type + "'");
  return q->integer(0);
}

int64_t configId(Db& db, const ConfigRecord& config) {
  const std::string canonical = config.canonicalJson.empty() ? canonicalJson(config.settings) : config.canonicalJson;
  const std::string hash = sha256(canonical);
  {
    Query q(db.cached("SELECT config_id FROM config WHERE sha256=?").bind(blob(hash)));
    if (q->step()) return q->integer(0);
  }
  db.run("INSERT INTO config(sha256, canonical_json) VALUES(?,?)", blob(hash), json(db, canonical, "configuration"));
  const int64_t id = db.lastId();
  for (const KnobSetting& k : config.settings) {
    const int64_t knob = knobId(db, k);
    if (const double* number = std::get_if<double>(&k.value))
      db.run("INSERT OR REPLACE INTO config_value(config_id, knob_id, num) VALUES(?,?,?)", id, knob, *number);
    else
      db.run("INSERT OR REPLACE INTO config_value(config_id, knob_id, txt) VALUES(?,?,?)", id, knob, std::get<std::string>(k.value));
  }
  return id;
}

int64_t environmentId(Db& db, const EnvironmentRecord& e, int64_t nowUs) {
  std::string all;
  for (const std::string* part :
       {&e.os, &e.kernel, &e.cpuModel, &e.cpuFeatures, &e.appVersion, &e.sourceRevision, &e.compiler, &e.buildFlags, &e.extraJson})
    all += std::to_string(part->size()) + ":" + *part;  // length first: no two environments write the same text
  all += std::to_string(e.coresPhysical) + "," + std::to_string(e.coresLogical) + "," + std::to_string(e.ramBytes);
  const std::string hash = sha256(all);
  {
    Query q(db.cached("SELECT env_id FROM environment WHERE sha256=?").bind(blob(hash)));
    if (q->step()) return q->integer(0);
  }
  db.run("INSERT INTO environment(sha256, captured_utc_us, os, kernel, cpu_model, cpu_features, cores_physical, cores_logical, ram_bytes, "
         "app_version, source_rev, compiler, build_flags, extra_json) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
         blob(hash), nowUs, e.os, e.kernel, e.cpuModel, e.cpuFeatures, e.coresPhysical, e.coresLogical, e.ramBytes, e.appVersion,
         e.sourceRevision, e.compiler, e.buildFlags, json(db, e.extraJson, "environment"));
  return db.lastId();
}

int64_t deviceId(Db& db, int64_t environment, const DeviceRecord& d) {
  db.run("INSERT OR IGNORE INTO device(env_id, kind, name, mem_bytes, threads, detail) VALUES(?,?,?,?,?,?)", environment, d.kind, d.name,
         d.memoryBytes, d.threads, d.detail);
  Query q(db.cached("SELECT device_id FROM device WHERE env_id=? AND kind=? AND name=? AND mem_bytes=? AND threads=? AND detail=?")
              .bind(environment, d.kind, d.name, d.memoryBytes, d.threads, d.detail));
  if (!q->step()) throw SqlError(SQLITE_CONSTRAINT_CHECK, "the device kind '" + d.kind + "' is neither cpu nor cuda");
  return q->integer(0);
}

int64_t modelId(Db& db, const ModelRecord& m) {
  {
    Query q(db.cached("SELECT model_id, sha256 IS NULL FROM model WHERE path=? AND size_bytes=? AND mtime_us=?")
                .bind(m.path, m.fileBytes, m.mtimeUs));
    if (q->step()) {
      const int64_t id = q->integer(0);
      if (q->integer(1) && !m.sha256.empty()) {
        Statement& update = db.cached("UPDATE model SET sha256=?, verified=? WHERE model_id=?").bind();
        addHash(update, m.sha256);
        update.add(m.verified).add(id).run();
      }
      return id;
    }
  }
  Statement& insert =
      db.cached("INSERT INTO model(path, size_bytes, mtime_us, name, format, arch, type_summary, n_params, n_layers, n_heads, n_kv_heads, "
                "head_dim, n_ctx_train, n_vocab, verified, sha256) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
          .bind(m.path, m.fileBytes, m.mtimeUs, m.name, m.format, m.architecture, m.typeSummary, m.parameters, m.layers, m.heads, m.kvHeads,
                m.headDim, m.context, m.vocab, m.verified && !m.sha256.empty());
  addHash(insert, m.sha256);
  insert.run();
  return db.lastId();
}

std::optional<int64_t> promptId(Db& db, const std::string& text) {
  if (text.empty()) return std::nullopt;
  const std::string hash = sha256(text);
  db.run("INSERT OR IGNORE INTO prompt(sha256, text) VALUES(?,?)", blob(hash), text);
  Query q(db.cached("SELECT prompt_id FROM prompt WHERE sha256=?").bind(blob(hash)));
  q->step();
  return q->integer(0);
}

std::optional<int64_t> corpusId(Db& db, const NewRun& run) {
  if (run.corpusName.empty()) return std::nullopt;
  {
    Statement& find = db.cached("SELECT corpus_id FROM corpus WHERE name=? AND n_bytes=? AND ifnull(sha256, x'')=ifnull(?, x'')")
                          .bind(run.corpusName, run.corpusBytes);
    addHash(find, run.corpusSha256);
    Query q(find);
    if (q->step()) return q->integer(0);
  }
  Statement& insert = db.cached("INSERT INTO corpus(name, n_bytes, sha256) VALUES(?,?,?)").bind(run.corpusName, run.corpusBytes);
  addHash(insert, run.corpusSha256);
  insert.run();
  return db.lastId();
}

void jsonText(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20) {
      out += "\\u00";
      out += toHex(std::string_view(&c, 1));
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace

bool rowAtFault(const SqlError& error) {
  const int code = error.primary();
  return code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH || code == SQLITE_TOOBIG || code == SQLITE_RANGE;
}

std::string numberText(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

std::string canonicalJson(const std::vector<KnobSetting>& settings) {
  std::map<std::string, const KnobSetting*> sorted;
  for (const KnobSetting& k : settings) sorted[k.name] = &k;
  std::string json = "{";
  for (const auto& [name, k] : sorted) {
    if (json.size() > 1) json += ',';
    jsonText(json, name);
    json += ':';
    const double* number = std::get_if<double>(&k->value);
    if (!number) jsonText(json, std::get<std::string>(k->value));
    else if (k->type == "boolean") json += *number != 0 ? "true" : "false";
    else json += *number - *number == 0 ? numberText(*number) : "null";  // JSON has no infinity
  }
  return json + "}";
}

void insertRun(Db& db, const RunStart& start, const NewRun& run) {
  const int64_t device = deviceId(db, environmentId(db, run.environment, start.startedUs), run.device);
  const std::optional<int64_t> ordinal = run.sweep ? std::optional<int64_t>(std::max(run.sweepOrdinal, 0)) : std::nullopt;
  db.run(
      "INSERT INTO run(run_id, uuid, kind, status, name, model_id, device_id, requested_config_id, effective_config_id, divergence_json, "
      "prompt_id, corpus_id, protocol, spec_json, seed, repeat_no, sweep_id, sweep_ordinal, created_utc_us, started_utc_us, "
      "heartbeat_utc_us) "
      "VALUES(?,?,?,'running',?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
      start.id, start.uuid, runKindName(run.kind), run.name, modelId(db, run.model), device, configId(db, run.requested),
      configId(db, run.effective), json(db, run.divergenceJson, "divergence"), promptId(db, run.prompt), corpusId(db, run), run.protocol,
      json(db, run.specJson, "specification"), run.seed, run.repeat, run.sweep, ordinal, start.startedUs, start.startedUs, start.startedUs);
}

void updateEffective(Db& db, Id run, const ConfigRecord& effective, const std::string& divergenceJson) {
  db.run("UPDATE run SET effective_config_id=?, divergence_json=? WHERE run_id=?", configId(db, effective),
         json(db, divergenceJson, "divergence"), run);
}

void insertTokens(Db& db, Id run, const std::vector<TokenSample>& samples, Outcome& outcome) {
  Statement& insert = db.cached("INSERT INTO token_sample VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  const int64_t before = outcome.written;
  eachRow(samples, outcome, [&](const TokenSample& s) {
    insert
        .bind(run, s.index, !s.prefill, s.token, s.tNs, s.durationNs, s.nll, s.entropy, s.kvLive, s.kvEvicted, s.kvBytes, s.epoch,
              blob(s.piece), s.joules)
        .run();
  });
  outcome.tokens += outcome.written - before;
}

void countTokens(Db& db, Id run, int64_t tokens) { db.run("UPDATE run SET n_tokens=n_tokens+? WHERE run_id=?", tokens, run); }

void insertMemory(Db& db, Id run, const std::vector<MemorySample>& samples, Outcome& outcome) {
  Statement& insert = db.cached("INSERT INTO memory_sample VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET bytes=excluded.bytes");
  eachRow(samples, outcome, [&](const MemorySample& s) { insert.bind(run, s.atToken, s.tag, s.bytes).run(); });
}

void insertKnobEvents(Db& db, Id run, const std::vector<KnobEvent>& events, Outcome& outcome) {
  Statement& insert = db.cached(
      "INSERT INTO knob_event SELECT ?1, coalesce(max(seq)+1, 0), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM knob_event WHERE run_id=?1");
  eachRow(events, outcome, [&](const KnobEvent& e) {
    insert.bind(run, e.epoch, e.atToken, e.tNs, e.knob, e.oldValue, e.newValue, e.cause, e.reason).run();
  });
}

void insertEvents(Db& db, Id run, const std::vector<EventRecord>& events, Outcome& outcome) {
  Statement& insert = db.cached("INSERT INTO event SELECT ?1, coalesce(max(seq)+1, 0), ?2, ?3, ?4, ?5 FROM event WHERE run_id=?1");
  eachRow(events, outcome, [&](const EventRecord& e) { insert.bind(run, e.tNs, e.level, e.code, e.text).run(); });
}

void insertWindows(Db& db, Id run, const std::vector<WindowSample>& windows, Outcome& outcome) {
  Statement& insert = db.cached(
      "INSERT INTO ppl_window VALUES(?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET first_token=excluded.first_token, "
      "n_tokens=excluded.n_tokens, "
      "nll_sum=excluded.nll_sum, nll_sq_sum=excluded.nll_sq_sum, kld_sum=excluded.kld_sum, same_top=excluded.same_top");
  eachRow(windows, outcome, [&](const WindowSample& w) {
    insert.bind(run, w.window, w.firstToken, w.count, w.nllSum, w.nllSquaredSum, w.kldSum, w.sameTop).run();
  });
}

void insertRetrieval(Db& db, Id run, const std::vector<RetrievalSample>& samples, Outcome& outcome) {
  Statement& insert = db.cached("INSERT OR REPLACE INTO retrieval_item VALUES(?,?,?,?,?,?,?,?,?,?,?,?)");
  eachRow(samples, outcome, [&](const RetrievalSample& s) {
    insert.bind(run, s.item, s.length, s.depth, s.promptTokens, s.count, s.found, s.nllSum, s.baseFound, s.baseNllSum, s.kldSum, s.sameTop).run();
  });
}

void insertBench(Db& db, Id run, const std::vector<BenchSample>& samples, Outcome& outcome) {
  Statement& insert = db.cached(
      "INSERT INTO bench_repetition VALUES(?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n_tokens=excluded.n_tokens, seconds=excluded.seconds, "
      "tokens_per_second=excluded.tokens_per_second");
  eachRow(samples, outcome,
          [&](const BenchSample& s) { insert.bind(run, s.test, s.depth, s.repetition, s.tokens, s.seconds, s.tokensPerSecond).run(); });
}

void insertOpStats(Db& db, Id run, const std::vector<OpStat>& stats, Outcome& outcome) {
  Statement& insert = db.cached(
      "INSERT INTO op_stat VALUES(?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n=excluded.n, sum_ns=excluded.sum_ns, "
      "p50_ns=excluded.p50_ns, "
      "p95_ns=excluded.p95_ns, bytes=excluded.bytes, flops=excluded.flops");
  eachRow(stats, outcome,
          [&](const OpStat& s) { insert.bind(run, s.op, s.layer, !s.prefill, s.n, s.sumNs, s.p50Ns, s.p95Ns, s.bytes, s.flops).run(); });
}

void insertMetrics(Db& db, Id run, const std::vector<Metric>& metrics, Outcome& outcome) {
  eachRow(metrics, outcome, [&](const Metric& m) {
    const std::string better = m.better.empty() ? "none" : m.better;
    db.run("INSERT OR IGNORE INTO metric(name, unit, better) VALUES(?,?,?)", m.name, m.unit, better);
    db.run("INSERT INTO run_metric SELECT ?, metric_id, ?, ?, ?, ?, ?, ?, ? FROM metric WHERE name=? AND unit=? AND better=? "
           "ON CONFLICT DO UPDATE SET n=excluded.n, value=excluded.value, sd=excluded.sd, p50=excluded.p50, p95=excluded.p95, "
           "ci_lo=excluded.ci_lo, ci_hi=excluded.ci_hi",
           run, m.n, m.value, m.sd, m.p50, m.p95, m.ciLow, m.ciHigh, m.name, m.unit, better);
    if (db.changes() == 0)
      throw SqlError(SQLITE_CONSTRAINT_CHECK, "metric " + m.name + ": better is '" + better + "', not lower, higher or none");
  });
}

void replaceOutput(Db& db, Id run, const std::string& text) {
  db.run("INSERT INTO output VALUES(?,?) ON CONFLICT DO UPDATE SET text=excluded.text", run, text);
}

void finishRun(Db& db, Id run, RunStatus status, const std::string& error, int64_t nowUs) {
  db.run("UPDATE run SET status=?, error_text=?, ended_utc_us=max(?, started_utc_us) WHERE run_id=?", runStatusName(status), error, nowUs,
         run);
}

std::string_view pointStateName(PointState state) {
  switch (state) {
    case PointState::todo: return "todo";
    case PointState::running: return "running";
    case PointState::done: return "done";
    case PointState::failed: return "failed";
    case PointState::skipped: return "skipped";
  }
  return "todo";
}

void insertSweep(Db& db, Id id, const SweepRecord& sweep, int64_t nowUs) {
  db.run("INSERT INTO sweep VALUES(?,?,?,?)", id, sweep.name, sweep.planJson.empty() ? "{}" : json(db, sweep.planJson, "plan"), nowUs);
  for (const SweepPoint& p : sweep.points)
    db.run("INSERT INTO sweep_point(sweep_id, ordinal, repeat_no, config_id, spec_json, state, run_id, note) VALUES(?,?,?,?,?,?,?,?)", id,
           p.ordinal, p.repeat, configId(db, p.config), p.specJson.empty() ? "{}" : json(db, p.specJson, "specification"),
           pointStateName(p.state), p.run, p.note);
}

void updatePoint(Db& db, Id sweep, int ordinal, PointState state, std::optional<Id> run, const std::string& note) {
  db.run("UPDATE sweep_point SET state=?, run_id=?, note=?, attempts=attempts+? WHERE sweep_id=? AND ordinal=?", pointStateName(state), run,
         note, state == PointState::running, sweep, ordinal);
}

void markBaseline(Db& db, std::optional<Id> run) {
  db.run("UPDATE run SET is_baseline=0 WHERE is_baseline=1");
  if (run) db.run("UPDATE run SET is_baseline=1 WHERE run_id=?", *run);
}

void updateUi(Db& db, const std::string& text) { db.run("UPDATE session SET ui_json=?", json(db, text, "window state")); }

void updateModelHash(Db& db, const std::string& path, const std::string& sha256Hex) {
  Statement& update =
      db.cached("UPDATE model SET verified=1, sha256=? WHERE model_id=(SELECT max(model_id) FROM model WHERE path=?)").bind();
  addHash(update, sha256Hex);
  update.add(path).run();
}

int deleteRuns(Db& db, const std::vector<Id>& runs) {
  int deleted = 0;
  for (const Id run : runs) {
    db.run("UPDATE sweep_point SET state='todo', run_id=NULL, note='' WHERE run_id=?", run);
    std::optional<int64_t> prompt;
    {
      Query q(db.cached("SELECT prompt_id FROM run WHERE run_id=?").bind(run));
      if (q->step()) prompt = q->integerOrNone(0);
    }
    db.run("DELETE FROM run WHERE run_id=?", run);
    deleted += static_cast<int>(db.changes());
    // The words a person typed go with the last run that used them.
    if (prompt) db.run("DELETE FROM prompt WHERE prompt_id=?1 AND NOT EXISTS(SELECT 1 FROM run WHERE prompt_id=?1)", *prompt);
  }
  return deleted;
}

}  // namespace winnow::storage
