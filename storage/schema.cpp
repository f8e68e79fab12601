// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/schema.h"

namespace winnow::storage {

// Identities are content: an environment, a device, a configuration, a prompt or a text is stored once, however many runs
// share it. Everything of a run hangs off run_id and goes with it. A finished run keeps its status and its samples for ever:
// the triggers at the end refuse any change but its name, notes and baseline mark. Deleting a whole run passes them, because
// its row is gone before its samples are. JSON is checked on the way in, not here: SQLite 3.40 does not allow its functions in the
// checks of a schema that is not trusted.
static const char* const kTables = R"sql(
CREATE TABLE session(
  session_id INTEGER PRIMARY KEY CHECK(session_id = 1), uuid TEXT NOT NULL UNIQUE, title TEXT NOT NULL DEFAULT '',
  notes TEXT NOT NULL DEFAULT '', created_utc_us INTEGER NOT NULL, ui_json TEXT NOT NULL DEFAULT '{}') STRICT;
CREATE TABLE owner(
  owner_id INTEGER PRIMARY KEY CHECK(owner_id = 1), pid INTEGER NOT NULL, process_start INTEGER NOT NULL, boot_id TEXT NOT NULL,
  host TEXT NOT NULL, token TEXT NOT NULL, since_utc_us INTEGER NOT NULL, heartbeat_utc_us INTEGER NOT NULL) STRICT;

CREATE TABLE environment(
  env_id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE CHECK(length(sha256) = 32), captured_utc_us INTEGER NOT NULL,
  os TEXT NOT NULL, kernel TEXT NOT NULL, cpu_model TEXT NOT NULL, cpu_features TEXT NOT NULL, cores_physical INTEGER NOT NULL,
  cores_logical INTEGER NOT NULL, ram_bytes INTEGER NOT NULL, app_version TEXT NOT NULL, source_rev TEXT NOT NULL,
  compiler TEXT NOT NULL, build_flags TEXT NOT NULL, extra_json TEXT NOT NULL DEFAULT '{}') STRICT;
CREATE TABLE device(
  device_id INTEGER PRIMARY KEY, env_id INTEGER NOT NULL REFERENCES environment, kind TEXT NOT NULL CHECK(kind IN('cpu','cuda')),
  name TEXT NOT NULL, mem_bytes INTEGER NOT NULL, threads INTEGER NOT NULL, detail TEXT NOT NULL,
  UNIQUE(env_id, kind, name, mem_bytes, threads, detail)) STRICT;
CREATE TABLE model(
  model_id INTEGER PRIMARY KEY, path TEXT NOT NULL, size_bytes INTEGER NOT NULL, mtime_us INTEGER NOT NULL,
  sha256 BLOB CHECK(sha256 IS NULL OR length(sha256) = 32), verified INTEGER NOT NULL DEFAULT 0 CHECK(verified IN(0,1)),
  name TEXT NOT NULL, format TEXT NOT NULL, arch TEXT NOT NULL, type_summary TEXT NOT NULL, n_params INTEGER NOT NULL,
  n_layers INTEGER NOT NULL, n_heads INTEGER NOT NULL, n_kv_heads INTEGER NOT NULL, head_dim INTEGER NOT NULL,
  n_ctx_train INTEGER NOT NULL, n_vocab INTEGER NOT NULL, UNIQUE(path, size_bytes, mtime_us),
  CHECK(verified = 0 OR sha256 IS NOT NULL)) STRICT;
CREATE INDEX model_by_sha256 ON model(sha256) WHERE sha256 IS NOT NULL;
CREATE TABLE prompt(prompt_id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE CHECK(length(sha256) = 32), text TEXT NOT NULL) STRICT;
CREATE TABLE corpus(
  corpus_id INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 BLOB CHECK(sha256 IS NULL OR length(sha256) = 32),
  n_bytes INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX corpus_identity ON corpus(name, n_bytes, ifnull(sha256, x''));

CREATE TABLE knob(
  knob_id INTEGER PRIMARY KEY, name TEXT NOT NULL,
  type TEXT NOT NULL CHECK(type IN('boolean','integer','real','enumeration','text','path')), unit TEXT NOT NULL,
  apply TEXT NOT NULL CHECK(apply IN('','next_token','rebuild_cache','prepare_weights','reload')), UNIQUE(name, type, unit, apply)) STRICT;
CREATE TABLE config(
  config_id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE CHECK(length(sha256) = 32),
  canonical_json TEXT NOT NULL) STRICT;
CREATE TABLE config_value(
  config_id INTEGER NOT NULL REFERENCES config ON DELETE CASCADE, knob_id INTEGER NOT NULL REFERENCES knob, num REAL, txt TEXT,
  CHECK((num IS NULL) <> (txt IS NULL)), PRIMARY KEY(config_id, knob_id)) STRICT, WITHOUT ROWID;
CREATE INDEX config_value_by_knob ON config_value(knob_id, num, txt);

CREATE TABLE sweep(
  sweep_id INTEGER PRIMARY KEY, name TEXT NOT NULL, plan_json TEXT NOT NULL,
  created_utc_us INTEGER NOT NULL) STRICT;
CREATE TABLE run(
  run_id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK(kind IN('generate','evaluate','bench','attribute')),
  status TEXT NOT NULL CHECK(status IN('queued','running','done','failed','cancelled','interrupted')),
  name TEXT NOT NULL DEFAULT '', notes TEXT NOT NULL DEFAULT '', is_baseline INTEGER NOT NULL DEFAULT 0 CHECK(is_baseline IN(0,1)),
  model_id INTEGER NOT NULL REFERENCES model, device_id INTEGER NOT NULL REFERENCES device,
  requested_config_id INTEGER NOT NULL REFERENCES config, effective_config_id INTEGER REFERENCES config,
  divergence_json TEXT NOT NULL DEFAULT '[]',
  prompt_id INTEGER REFERENCES prompt, corpus_id INTEGER REFERENCES corpus, protocol TEXT NOT NULL DEFAULT '',
  spec_json TEXT NOT NULL DEFAULT '{}', seed INTEGER NOT NULL, repeat_no INTEGER NOT NULL DEFAULT 0,
  n_tokens INTEGER NOT NULL DEFAULT 0, sweep_id INTEGER REFERENCES sweep, sweep_ordinal INTEGER,
  created_utc_us INTEGER NOT NULL, started_utc_us INTEGER, ended_utc_us INTEGER, heartbeat_utc_us INTEGER,
  error_text TEXT NOT NULL DEFAULT '',
  CHECK(status <> 'queued' OR started_utc_us IS NULL),
  CHECK(status NOT IN('running','done','interrupted') OR started_utc_us IS NOT NULL),
  CHECK((status IN('queued','running')) = (ended_utc_us IS NULL)),
  CHECK(status <> 'done' OR effective_config_id IS NOT NULL),
  CHECK((sweep_id IS NULL) = (sweep_ordinal IS NULL))) STRICT;
CREATE UNIQUE INDEX run_one_baseline ON run(is_baseline) WHERE is_baseline = 1;
CREATE INDEX run_unfinished ON run(status) WHERE status IN('queued','running');
CREATE INDEX run_by_prompt ON run(prompt_id) WHERE prompt_id IS NOT NULL;
CREATE INDEX run_by_sweep ON run(sweep_id, sweep_ordinal) WHERE sweep_id IS NOT NULL;
CREATE TABLE sweep_point(
  sweep_id INTEGER NOT NULL REFERENCES sweep ON DELETE CASCADE, ordinal INTEGER NOT NULL CHECK(ordinal >= 0),
  repeat_no INTEGER NOT NULL, config_id INTEGER NOT NULL REFERENCES config,
  spec_json TEXT NOT NULL DEFAULT '{}',
  state TEXT NOT NULL CHECK(state IN('todo','running','done','failed','skipped')), attempts INTEGER NOT NULL DEFAULT 0,
  run_id INTEGER UNIQUE REFERENCES run ON DELETE SET NULL, note TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(sweep_id, ordinal)) STRICT, WITHOUT ROWID;
CREATE INDEX sweep_point_running ON sweep_point(state) WHERE state = 'running';

CREATE TABLE knob_event(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, at_token INTEGER NOT NULL,
  t_ns INTEGER NOT NULL, knob TEXT NOT NULL, old_value TEXT NOT NULL, new_value TEXT NOT NULL,
  cause TEXT NOT NULL CHECK(cause IN('user','undo','redo','preset','sweep','fallback')), reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(run_id, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE event(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, seq INTEGER NOT NULL, t_ns INTEGER NOT NULL,
  level TEXT NOT NULL CHECK(level IN('info','notice','warning','error')), code TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(run_id, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE token_sample(  -- phase 0 = prompt, 1 = generated; nll and entropy in nats
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, idx INTEGER NOT NULL, phase INTEGER NOT NULL CHECK(phase IN(0,1)),
  token_id INTEGER NOT NULL, t_ns INTEGER NOT NULL, dur_ns INTEGER NOT NULL, nll REAL, entropy REAL, kv_live INTEGER NOT NULL,
  kv_evicted INTEGER NOT NULL, kv_bytes INTEGER NOT NULL, epoch INTEGER NOT NULL, piece BLOB NOT NULL,
  PRIMARY KEY(run_id, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE memory_sample(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, at_token INTEGER NOT NULL, tag TEXT NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY(run_id, at_token, tag)) STRICT, WITHOUT ROWID;
CREATE TABLE ppl_window(  -- sums over the scored tokens of a window; kld against the baseline; same_top = equal first choices
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, window_no INTEGER NOT NULL, first_token INTEGER NOT NULL,
  n_tokens INTEGER NOT NULL CHECK(n_tokens > 0), nll_sum REAL, nll_sq_sum REAL, kld_sum REAL, same_top INTEGER NOT NULL,
  PRIMARY KEY(run_id, window_no)) STRICT, WITHOUT ROWID;
CREATE TABLE bench_repetition(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, test TEXT NOT NULL, depth INTEGER NOT NULL, repetition INTEGER NOT NULL,
  n_tokens INTEGER NOT NULL, seconds REAL, tokens_per_second REAL, PRIMARY KEY(run_id, test, depth, repetition)) STRICT, WITHOUT ROWID;
CREATE TABLE op_stat(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, op TEXT NOT NULL, layer INTEGER NOT NULL,
  phase INTEGER NOT NULL CHECK(phase IN(0,1)), n INTEGER NOT NULL, sum_ns INTEGER NOT NULL, p50_ns INTEGER NOT NULL,
  p95_ns INTEGER NOT NULL, bytes INTEGER NOT NULL, flops INTEGER NOT NULL, PRIMARY KEY(run_id, op, layer, phase)) STRICT, WITHOUT ROWID;
CREATE TABLE metric(
  metric_id INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL,
  better TEXT NOT NULL CHECK(better IN('lower','higher','none')), UNIQUE(name, unit, better)) STRICT;
CREATE TABLE run_metric(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, metric_id INTEGER NOT NULL REFERENCES metric, n INTEGER NOT NULL,
  value REAL, sd REAL, p50 REAL, p95 REAL, ci_lo REAL, ci_hi REAL, PRIMARY KEY(run_id, metric_id)) STRICT, WITHOUT ROWID;
CREATE INDEX run_metric_rank ON run_metric(metric_id, value);
CREATE TABLE output(run_id INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE, text TEXT NOT NULL) STRICT;
CREATE TABLE attribution(
  run_id INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE, method TEXT NOT NULL, unit TEXT NOT NULL, context TEXT NOT NULL,
  question TEXT NOT NULL, response TEXT NOT NULL, base_logprob REAL, noise_floor REAL, n_forward INTEGER NOT NULL,
  forward_tokens INTEGER NOT NULL, wall_ns INTEGER NOT NULL, complete INTEGER NOT NULL CHECK(complete IN(0,1))) STRICT;
CREATE TABLE attribution_source(  -- per_token: float32, little endian, one per response token
  run_id INTEGER NOT NULL REFERENCES attribution ON DELETE CASCADE, source_no INTEGER NOT NULL, byte_start INTEGER NOT NULL,
  byte_end INTEGER NOT NULL, text TEXT NOT NULL, score REAL, per_token BLOB, PRIMARY KEY(run_id, source_no)) STRICT, WITHOUT ROWID;

CREATE TRIGGER session_stays BEFORE DELETE ON session BEGIN SELECT RAISE(ABORT, 'a session file holds exactly one session'); END;
CREATE TRIGGER model_hash_once BEFORE UPDATE OF sha256 ON model WHEN OLD.sha256 IS NOT NULL AND NEW.sha256 IS NOT OLD.sha256
  BEGIN SELECT RAISE(ABORT, 'the hash of a model is final'); END;
CREATE TRIGGER model_frozen BEFORE UPDATE OF model_id, path, size_bytes, mtime_us, name, format, arch, type_summary, n_params, n_layers,
  n_heads, n_kv_heads, head_dim, n_ctx_train, n_vocab ON model BEGIN SELECT RAISE(ABORT, 'a model record is immutable'); END;
CREATE TRIGGER run_frozen BEFORE UPDATE OF run_id, uuid, kind, status, model_id, device_id, requested_config_id, effective_config_id,
  divergence_json, prompt_id, corpus_id, protocol, spec_json, seed, repeat_no, n_tokens, sweep_id, sweep_ordinal, created_utc_us,
  started_utc_us, ended_utc_us, heartbeat_utc_us, error_text ON run WHEN OLD.status NOT IN('queued','running')
  BEGIN SELECT RAISE(ABORT, 'a finished run is immutable'); END;

CREATE VIEW run_perplexity AS  -- from the windows themselves
  SELECT run_id, exp(sum(nll_sum) / sum(n_tokens)) AS perplexity, sum(n_tokens) AS n, sum(kld_sum) / sum(n_tokens) AS kld_mean,
         1.0 * sum(same_top) / sum(n_tokens) AS top1 FROM ppl_window GROUP BY run_id;
CREATE VIEW config_text AS  -- "kv.budget=0.5 weights.bits=4"
  SELECT config_id, group_concat(setting, ' ') AS settings FROM (
    SELECT v.config_id, k.name || '=' || CASE WHEN v.txt IS NOT NULL THEN v.txt WHEN k.type = 'boolean' THEN iif(v.num, 'true', 'false')
           WHEN v.num = CAST(v.num AS INTEGER) THEN CAST(CAST(v.num AS INTEGER) AS TEXT) ELSE CAST(v.num AS TEXT) END AS setting
    FROM config_value v JOIN knob k USING(knob_id) ORDER BY v.config_id, k.name) GROUP BY config_id;
CREATE VIEW config_divergence AS  -- where the engine did not do what was asked
  SELECT r.run_id, j.value ->> 'knob' AS knob, j.value ->> 'requested' AS requested, j.value ->> 'effective' AS effective,
         j.value ->> 'reason' AS reason FROM run r, json_each(r.divergence_json) j;
CREATE VIEW run_summary AS
  SELECT r.run_id, r.name, r.kind, r.status, r.is_baseline, m.name AS model, m.arch, d.kind AS device, d.name AS device_name, d.threads,
    ifnull((SELECT settings FROM config_text t WHERE t.config_id = r.requested_config_id), '') AS requested,
    ifnull((SELECT settings FROM config_text t WHERE t.config_id = r.effective_config_id), '') AS effective,
    r.protocol, ifnull(c.name, '') AS corpus, r.seed, r.repeat_no, r.n_tokens,
    datetime(r.started_utc_us / 1000000, 'unixepoch') AS started_utc, (r.ended_utc_us - r.started_utc_us) / 1e6 AS seconds,
    (SELECT value FROM run_metric x JOIN metric k USING(metric_id) WHERE x.run_id = r.run_id AND k.name = 'perplexity') AS perplexity,
    (SELECT value FROM run_metric x JOIN metric k USING(metric_id) WHERE x.run_id = r.run_id AND k.name = 'kld_mean') AS kld_mean,
    (SELECT value FROM run_metric x JOIN metric k USING(metric_id) WHERE x.run_id = r.run_id AND k.name = 'ms_per_token') AS ms_per_token,
    (SELECT value FROM run_metric x JOIN metric k USING(metric_id) WHERE x.run_id = r.run_id AND k.name = 'memory_peak') AS memory_peak,
    r.error_text, r.notes
  FROM run r JOIN model m USING(model_id) JOIN device d USING(device_id) LEFT JOIN corpus c USING(corpus_id);
CREATE VIEW comparison AS  -- every number of every run beside the baseline's
  SELECT x.run_id, r.name AS run, m.name AS metric, m.unit, m.better, x.n, x.value, x.ci_lo, x.ci_hi, b.value AS baseline,
    x.value - b.value AS delta, 100.0 * (x.value - b.value) / nullif(b.value, 0) AS delta_percent
  FROM run_metric x JOIN run r USING(run_id) JOIN metric m USING(metric_id)
  LEFT JOIN run_metric b ON b.metric_id = x.metric_id AND b.run_id = (SELECT run_id FROM run WHERE is_baseline = 1);
)sql";

// Format 2. New tables only: those of an older file stay as they were made.
static const char* const kTables2 = R"sql(
CREATE TABLE attribution_detail(  -- response_tokens: int32, response_ends: int64, little endian, one per token; compared_run: the other side;
  -- supporting: passages marked by a data set, '0 3'
  run_id INTEGER PRIMARY KEY REFERENCES attribution ON DELETE CASCADE, tricks TEXT NOT NULL, proxy TEXT NOT NULL,
  span_first INTEGER NOT NULL, span_last INTEGER NOT NULL, n_proxy_forward INTEGER NOT NULL, proxy_tokens INTEGER NOT NULL,
  n_known_forward INTEGER NOT NULL, parameter_tokens REAL NOT NULL, passages INTEGER NOT NULL, dropped INTEGER NOT NULL,
  samples INTEGER NOT NULL, seed INTEGER NOT NULL, confidence REAL, compared_run INTEGER, supporting TEXT NOT NULL,
  levels_json TEXT NOT NULL, forecasts_json TEXT NOT NULL, response_tokens BLOB NOT NULL,
  response_ends BLOB NOT NULL) STRICT;
CREATE TABLE attribution_source_detail(  -- ablated_logprob: log p of what was attributed without the source, nats
  run_id INTEGER NOT NULL REFERENCES attribution ON DELETE CASCADE, source_no INTEGER NOT NULL, std_error REAL, ablated_logprob REAL,
  label TEXT NOT NULL, PRIMARY KEY(run_id, source_no)) STRICT, WITHOUT ROWID;
CREATE TABLE attribution_note(
  run_id INTEGER NOT NULL REFERENCES attribution ON DELETE CASCADE, seq INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY(run_id, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE attribution_outcome(  -- a forward: kept is a 1 or 0 for each source; logprobs: float64, little endian, one per token
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, seq INTEGER NOT NULL, origin TEXT NOT NULL CHECK(origin IN('target','proxy','noise')),
  kept TEXT NOT NULL, logprobs BLOB NOT NULL, tokens_fed INTEGER NOT NULL, PRIMARY KEY(run_id, seq)) STRICT, WITHOUT ROWID;
)sql";

static const std::string kSampleTables[] = {"knob_event", "event", "token_sample", "memory_sample", "ppl_window", "bench_repetition",
                                            "op_stat", "run_metric", "output", "attribution", "attribution_source"};
static const std::string kSampleTables2[] = {"attribution_detail", "attribution_source_detail", "attribution_note", "attribution_outcome"};

template <class Tables>
static std::string frozen(const Tables& tables) {
  std::string sql;
  const std::string refuse = " NOT IN('queued','running') BEGIN SELECT RAISE(ABORT, 'the samples of a finished run are immutable'); END;\n";
  for (const std::string& table : tables) {
    for (const std::string verb : {"INSERT", "UPDATE", "DELETE"}) {
      const std::string row = verb == "INSERT" ? "NEW" : "OLD";
      sql += "CREATE TRIGGER " + table + "_frozen_" + verb + " BEFORE " + verb + " ON " + table +
             " WHEN (SELECT status FROM run WHERE run_id = " + row + ".run_id)" + refuse;
    }
  }
  return sql;
}

// Format 3: joules, the device's mean power around the token times its duration.
static const char* const kEnergy3 = "ALTER TABLE token_sample ADD COLUMN energy_j REAL;\n";

// Format 4. depth: where the fact stood, 0 to 1, NULL where that is not known; sums over the answer's tokens, nats; base_*: the baseline's.
static const char* const kRetrieval4 = R"sql(
CREATE TABLE retrieval_item(
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, item_no INTEGER NOT NULL, length INTEGER NOT NULL, depth REAL,
  prompt_tokens INTEGER NOT NULL, n_tokens INTEGER NOT NULL CHECK(n_tokens > 0), found INTEGER NOT NULL CHECK(found IN(0,1)),
  nll_sum REAL, base_found INTEGER CHECK(base_found IN(0,1)), base_nll_sum REAL, kld_sum REAL, same_top INTEGER NOT NULL,
  PRIMARY KEY(run_id, item_no)) STRICT, WITHOUT ROWID;
)sql";
static const std::string kSampleTables4[] = {"retrieval_item"};

std::string upgradeSql(int from, int to) {
  std::string sql;
  if (from < 2 && to >= 2) sql += kTables2 + frozen(kSampleTables2);
  if (from < 3 && to >= 3) sql += kEnergy3;
  if (from < 4 && to >= 4) sql += kRetrieval4 + frozen(kSampleTables4);
  return sql;
}

std::string schemaSql(int version) { return kTables + frozen(kSampleTables) + upgradeSql(1, version); }

}  // namespace winnow::storage
