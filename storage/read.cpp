// SPDX-License-Identifier: GPL-3.0-or-later
#include "storage/read.h"

#include <cstring>

#include "storage/write.h"

namespace winnow::storage {

namespace {

const char* const kRuns =
    "SELECT r.run_id, r.uuid, r.name, r.notes, r.kind, r.status, r.is_baseline, m.name, m.path, m.arch, d.name, d.threads, r.protocol, "
    "(SELECT name FROM corpus c WHERE c.corpus_id = r.corpus_id), r.requested_config_id, r.effective_config_id, r.divergence_json, "
    "r.started_utc_us, r.ended_utc_us, r.seed, r.repeat_no, r.n_tokens, r.error_text, r.sweep_id "
    "FROM run r CROSS JOIN model m ON m.model_id = r.model_id CROSS JOIN device d ON d.device_id = r.device_id "
    "WHERE r.run_id BETWEEN ?1 AND ?2 ORDER BY r.run_id DESC";
const char* const kMetrics =
    "SELECT run_id, metric_id, n, value, sd, p50, p95, ci_lo, ci_hi FROM run_metric WHERE run_id BETWEEN ?1 AND ?2 ORDER BY run_id DESC";
const char* const kMetricNames = "SELECT metric_id, name, unit, better FROM metric";
const char* const kConfig =
    "SELECT k.name, k.type, v.num, v.txt FROM config_value v CROSS JOIN knob k ON k.knob_id = v.knob_id WHERE v.config_id = ?";
const char* const kTokens =
    "SELECT idx, phase, token_id, t_ns, dur_ns, nll, entropy, kv_live, kv_evicted, kv_bytes, epoch, piece, energy_j FROM token_sample "
    "WHERE run_id = ? ORDER BY idx";
const char* const kTokensWithoutEnergy =  // of a file that could not be brought up to date
    "SELECT idx, phase, token_id, t_ns, dur_ns, nll, entropy, kv_live, kv_evicted, kv_bytes, epoch, piece, NULL FROM token_sample "
    "WHERE run_id = ? ORDER BY idx";
const char* const kMemory = "SELECT at_token, tag, bytes FROM memory_sample WHERE run_id = ? ORDER BY at_token, tag";
const char* const kKnobEvents =
    "SELECT at_token, t_ns, knob, old_value, new_value, cause, reason, epoch FROM knob_event WHERE run_id = ? ORDER BY seq";
const char* const kEvents = "SELECT t_ns, level, code, text FROM event WHERE run_id = ? ORDER BY seq";
const char* const kWindows =
    "SELECT window_no, first_token, n_tokens, nll_sum, nll_sq_sum, kld_sum, same_top FROM ppl_window WHERE run_id = ? ORDER BY window_no";
const char* const kRetrieval =
    "SELECT item_no, length, depth, prompt_tokens, n_tokens, found, nll_sum, base_found, base_nll_sum, kld_sum, same_top FROM retrieval_item "
    "WHERE run_id = ? ORDER BY item_no";
const char* const kBench =
    "SELECT test, repetition, n_tokens, depth, seconds, tokens_per_second FROM bench_repetition WHERE run_id = ? ORDER BY test, depth, "
    "repetition";
const char* const kOpStats =
    "SELECT op, layer, phase, n, sum_ns, p50_ns, p95_ns, bytes, flops FROM op_stat WHERE run_id = ? ORDER BY op, layer, phase";
const char* const kEnvironment =
    "SELECT e.os, e.kernel, e.cpu_model, e.cpu_features, e.cores_physical, e.cores_logical, e.ram_bytes, e.app_version, e.source_rev, "
    "e.compiler, "
    "e.build_flags, e.extra_json FROM run r CROSS JOIN device d ON d.device_id = r.device_id CROSS JOIN environment e ON e.env_id = "
    "d.env_id "
    "WHERE r.run_id = ?";
const char* const kSweeps = "SELECT sweep_id, name, plan_json FROM sweep ORDER BY sweep_id";
const char* const kPoints =
    "SELECT p.ordinal, p.repeat_no, p.config_id, c.canonical_json, p.spec_json, p.state, p.run_id, p.note FROM sweep_point p "
    "CROSS JOIN config c ON c.config_id = p.config_id WHERE p.sweep_id = ? ORDER BY p.ordinal";

int toInt(int64_t value) {
  return value < INT32_MIN ? INT32_MIN : value > INT32_MAX ? INT32_MAX : static_cast<int>(value);
}

// Configurations are shared by many runs: each is read once per listing.
class Configs {
 public:
  explicit Configs(Db& db) : db_(db) {}
  const std::vector<KnobSetting>& settings(int64_t id) {
    const auto [it, isNew] = byId_.try_emplace(id);
    if (!isNew) return it->second;
    Query q(db_.cached(kConfig).bind(id));
    while (q->step()) {
      KnobSetting& k = it->second.emplace_back();
      k.name = q->text(0);
      k.type = q->text(1);
      if (q->isNull(2)) k.value = q->text(3);
      else k.value = q->real(2);
    }
    return it->second;
  }
  std::map<std::string, std::string> texts(int64_t id) {
    std::map<std::string, std::string> texts;
    for (const KnobSetting& k : settings(id)) {
      const double* number = std::get_if<double>(&k.value);
      texts[k.name] = !number               ? std::get<std::string>(k.value)
                      : k.type == "boolean" ? (*number != 0 ? "true" : "false")
                                            : numberText(*number);
    }
    return texts;
  }

 private:
  Db& db_;
  std::map<int64_t, std::vector<KnobSetting>> byId_;
};

RunSummary summaryOf(const Statement& s, Configs& configs) {
  RunSummary r;
  r.id = s.integer(0);
  r.uuid = s.text(1);
  r.name = s.text(2);
  r.notes = s.text(3);
  r.kind = findRunKind(s.text(4)).value_or(RunKind::generate);
  const std::string status = s.text(5);
  for (const RunStatus known :
       {RunStatus::queued, RunStatus::running, RunStatus::done, RunStatus::failed, RunStatus::cancelled, RunStatus::interrupted})
    if (status == runStatusName(known)) r.status = known;
  r.baseline = s.integer(6) != 0;
  r.model = s.text(7);
  r.modelPath = s.text(8);
  r.architecture = s.text(9);
  r.device = s.text(10);
  r.threads = s.text(11);
  r.protocol = s.text(12);
  r.corpus = s.text(13);
  r.requested = configs.texts(s.integer(14));
  if (!s.isNull(15)) r.effective = configs.texts(s.integer(15));
  r.divergenceJson = s.text(16);
  r.startedUs = s.integerOrNone(17);
  r.endedUs = s.integerOrNone(18);
  r.seed = s.integer(19);
  r.repeat = toInt(s.integer(20));
  r.tokens = s.integer(21);
  r.errorText = s.text(22);
  r.sweep = s.integerOrNone(23);
  return r;
}

// Both listings run from the newest run down, so the metrics are merged in one pass.
void addMetrics(Db& db, std::vector<RunSummary>& runs, int64_t first, int64_t last) {
  std::map<int64_t, Metric> kinds;
  {
    Query names(db.cached(kMetricNames).bind());
    while (names->step()) {
      Metric& m = kinds[names->integer(0)];
      m.name = names->text(1);
      m.unit = names->text(2);
      m.better = names->text(3);
    }
  }
  Query q(db.cached(kMetrics).bind(first, last));
  auto run = runs.begin();
  while (q->step()) {
    const Id id = q->integer(0);
    while (run != runs.end() && run->id > id) ++run;
    if (run == runs.end()) break;
    if (run->id != id) continue;
    Metric m = kinds[q->integer(1)];
    m.n = q->integer(2);
    m.value = q->real(3);
    m.sd = q->realOrNone(4);
    m.p50 = q->realOrNone(5);
    m.p95 = q->realOrNone(6);
    m.ciLow = q->realOrNone(7);
    m.ciHigh = q->realOrNone(8);
    run->metrics.insert_or_assign(m.name, std::move(m));
  }
}

template <class Row, class Fill>
std::vector<Row> rows(Db& db, const char* sql, Id id, Fill fill) {
  std::vector<Row> all;
  Query q(db.cached(sql).bind(id));
  while (q->step()) fill(*q.operator->(), all.emplace_back());
  return all;
}

}  // namespace

std::vector<std::string> listQueries() { return {kRuns, kMetrics}; }
std::vector<std::string> perRunQueries() {
  std::vector<std::string> all = {kConfig, kTokens, kMemory, kKnobEvents, kEvents, kWindows, kRetrieval, kBench, kOpStats, kEnvironment, kPoints};
  for (std::string& query : attributionQueries()) all.push_back(std::move(query));
  return all;
}

std::vector<RunSummary> readRuns(Db& db, std::optional<Id> only) {
  const int64_t first = only.value_or(INT64_MIN), last = only.value_or(INT64_MAX);
  std::vector<RunSummary> runs;
  Configs configs(db);
  db.exec("BEGIN");  // one snapshot for the two queries
  try {
    Query q(db.cached(kRuns).bind(first, last));
    while (q->step()) runs.push_back(summaryOf(*q.operator->(), configs));
    addMetrics(db, runs, first, last);
  } catch (...) {
    if (db.inTransaction()) db.exec("ROLLBACK");
    throw;
  }
  db.exec("COMMIT");
  return runs;
}

std::vector<TokenSample> readTokens(Db& db, Id run) {
  const char* const query = db.integer("PRAGMA user_version") < 3 ? kTokensWithoutEnergy : kTokens;
  return rows<TokenSample>(db, query, run, [](const Statement& s, TokenSample& t) {
    t.index = s.integer(0);
    t.prefill = s.integer(1) == 0;
    t.token = toInt(s.integer(2));
    t.tNs = s.integer(3);
    t.durationNs = s.integer(4);
    t.nll = s.realOrNone(5);
    t.entropy = s.realOrNone(6);
    t.kvLive = s.integer(7);
    t.kvEvicted = s.integer(8);
    t.kvBytes = s.integer(9);
    t.epoch = toInt(s.integer(10));
    t.piece = s.bytes(11);
    t.joules = s.realOrNone(12);
  });
}

std::vector<MemorySample> readMemory(Db& db, Id run) {
  return rows<MemorySample>(db, kMemory, run, [](const Statement& s, MemorySample& m) {
    m.atToken = s.integer(0);
    m.tag = s.text(1);
    m.bytes = s.integer(2);
  });
}

std::vector<KnobEvent> readKnobEvents(Db& db, Id run) {
  return rows<KnobEvent>(db, kKnobEvents, run, [](const Statement& s, KnobEvent& e) {
    e.atToken = s.integer(0);
    e.tNs = s.integer(1);
    e.knob = s.text(2);
    e.oldValue = s.text(3);
    e.newValue = s.text(4);
    e.cause = s.text(5);
    e.reason = s.text(6);
    e.epoch = toInt(s.integer(7));
  });
}

std::vector<EventRecord> readEvents(Db& db, Id run) {
  return rows<EventRecord>(db, kEvents, run, [](const Statement& s, EventRecord& e) {
    e.tNs = s.integer(0);
    e.level = s.text(1);
    e.code = s.text(2);
    e.text = s.text(3);
  });
}

std::vector<WindowSample> readWindows(Db& db, Id run) {
  return rows<WindowSample>(db, kWindows, run, [](const Statement& s, WindowSample& w) {
    w.window = toInt(s.integer(0));
    w.firstToken = s.integer(1);
    w.count = toInt(s.integer(2));
    w.nllSum = s.real(3);
    w.nllSquaredSum = s.real(4);
    w.kldSum = s.real(5);
    w.sameTop = toInt(s.integer(6));
  });
}

std::vector<RetrievalSample> readRetrieval(Db& db, Id run) {
  if (db.integer("PRAGMA user_version") < 4) return {};
  return rows<RetrievalSample>(db, kRetrieval, run, [](const Statement& s, RetrievalSample& r) {
    r.item = toInt(s.integer(0));
    r.length = toInt(s.integer(1));
    r.depth = s.realOrNone(2);
    r.promptTokens = s.integer(3);
    r.count = toInt(s.integer(4));
    r.found = s.integer(5) != 0;
    r.nllSum = s.real(6);
    if (const auto found = s.integerOrNone(7)) r.baseFound = *found != 0;
    r.baseNllSum = s.real(8);
    r.kldSum = s.real(9);
    r.sameTop = toInt(s.integer(10));
  });
}

std::vector<BenchSample> readBench(Db& db, Id run) {
  return rows<BenchSample>(db, kBench, run, [](const Statement& s, BenchSample& b) {
    b.test = s.text(0);
    b.repetition = toInt(s.integer(1));
    b.tokens = toInt(s.integer(2));
    b.depth = toInt(s.integer(3));
    b.seconds = s.real(4);
    b.tokensPerSecond = s.real(5);
  });
}

std::vector<OpStat> readOpStats(Db& db, Id run) {
  return rows<OpStat>(db, kOpStats, run, [](const Statement& s, OpStat& o) {
    o.op = s.text(0);
    o.layer = toInt(s.integer(1));
    o.prefill = s.integer(2) == 0;
    o.n = s.integer(3);
    o.sumNs = s.integer(4);
    o.p50Ns = s.integer(5);
    o.p95Ns = s.integer(6);
    o.bytes = s.integer(7);
    o.flops = s.integer(8);
  });
}

std::optional<EnvironmentRecord> readEnvironment(Db& db, Id run) {
  auto found = rows<EnvironmentRecord>(db, kEnvironment, run, [](const Statement& s, EnvironmentRecord& e) {
    e.os = s.text(0);
    e.kernel = s.text(1);
    e.cpuModel = s.text(2);
    e.cpuFeatures = s.text(3);
    e.coresPhysical = toInt(s.integer(4));
    e.coresLogical = toInt(s.integer(5));
    e.ramBytes = s.integer(6);
    e.appVersion = s.text(7);
    e.sourceRevision = s.text(8);
    e.compiler = s.text(9);
    e.buildFlags = s.text(10);
    e.extraJson = s.text(11);
  });
  if (found.empty()) return std::nullopt;
  return found[0];
}

std::vector<SweepRecord> readSweeps(Db& db) {
  std::vector<SweepRecord> sweeps;
  {
    Query q(db.cached(kSweeps).bind());
    while (q->step()) {
      SweepRecord& s = sweeps.emplace_back();
      s.id = q->integer(0);
      s.name = q->text(1);
      s.planJson = q->text(2);
    }
  }
  Configs configs(db);
  for (SweepRecord& sweep : sweeps) {
    sweep.points = rows<SweepPoint>(db, kPoints, sweep.id, [&](const Statement& s, SweepPoint& p) {
      p.ordinal = toInt(s.integer(0));
      p.repeat = toInt(s.integer(1));
      p.config.settings = configs.settings(s.integer(2));
      p.config.canonicalJson = s.text(3);
      p.specJson = s.text(4);
      const std::string state = s.text(5);
      for (const PointState known : {PointState::todo, PointState::running, PointState::done, PointState::failed, PointState::skipped})
        if (state == pointStateName(known)) p.state = known;
      p.run = s.integerOrNone(6);
      p.note = s.text(7);
    });
  }
  return sweeps;
}

}  // namespace winnow::storage
