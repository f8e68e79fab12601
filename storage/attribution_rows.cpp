// SPDX-License-Identifier: GPL-3.0-or-later
// Attributions: records into rows and back.
#include <algorithm>
#include <cstring>
#include <sstream>

#include "storage/read.h"
#include "storage/write.h"

namespace winnow::storage {
namespace {

const char* const kAttribution =
    "SELECT method, unit, context, question, response, base_logprob, noise_floor, n_forward, forward_tokens, wall_ns, complete FROM "
    "attribution WHERE run_id = ?";
const char* const kSources =
    "SELECT source_no, byte_start, byte_end, text, score, per_token FROM attribution_source WHERE run_id = ? ORDER BY source_no";
const char* const kDetail =
    "SELECT tricks, proxy, span_first, span_last, n_proxy_forward, proxy_tokens, n_known_forward, parameter_tokens, passages, dropped, "
    "samples, seed, confidence, compared_run, supporting, levels_json, forecasts_json, response_tokens, response_ends FROM "
    "attribution_detail WHERE run_id = ?";
const char* const kSourceDetail = "SELECT source_no, std_error, ablated_logprob, label FROM attribution_source_detail WHERE run_id = ?";
const char* const kNotes = "SELECT text FROM attribution_note WHERE run_id = ? ORDER BY seq";
const char* const kOutcomes = "SELECT origin, kept, logprobs, tokens_fed FROM attribution_outcome WHERE run_id = ? ORDER BY seq";

template <class Value>
Blob blobOf(const std::vector<Value>& values) {
  static const char none = 0;  // an empty blob is no NULL
  return values.empty() ? Blob{&none, 0} : Blob{values.data(), values.size() * sizeof(Value)};
}

template <class Value>
std::vector<Value> valuesOf(const std::string& raw) {
  std::vector<Value> values(raw.size() / sizeof(Value));
  if (!values.empty()) std::memcpy(values.data(), raw.data(), values.size() * sizeof(Value));
  return values;
}

template <class Fill>
void eachRow(Db& db, const char* sql, Id run, Fill fill) {
  Query q(db.cached(sql).bind(run));
  while (q->step()) fill(*q.operator->());
}

bool hasDetails(Db& db) { return db.integer("SELECT count(*) FROM sqlite_schema WHERE name='attribution_detail'") > 0; }

std::string numbersText(const std::vector<int>& numbers) {
  std::string text;
  for (const int number : numbers) text += (text.empty() ? "" : " ") + std::to_string(number);
  return text;
}

void replaceDetails(Db& db, Id run, const AttributionRecord& a) {
  db.run("DELETE FROM attribution_detail WHERE run_id=?", run);
  db.run("DELETE FROM attribution_source_detail WHERE run_id=?", run);
  db.run("DELETE FROM attribution_note WHERE run_id=?", run);
  db.run("INSERT INTO attribution_detail VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", run, a.tricks, a.proxy, a.spanFirst, a.spanLast, a.proxyForwards,
         a.proxyTokens, a.knownForwards, a.parameterTokens, a.passages, a.dropped, a.samples, a.seed, a.confidence, a.comparedWith, numbersText(a.supporting),
         a.levelsJson, a.forecastsJson, blobOf(a.responseTokens), blobOf(a.responseEnds));
  for (const AttributionSource& s : a.sources)
    if (s.standardError || s.ablatedLogProb || !s.label.empty())
      db.cached("INSERT INTO attribution_source_detail VALUES(?,?,?,?,?)").bind(run, s.id, s.standardError, s.ablatedLogProb, s.label).run();
  for (size_t i = 0; i < a.notes.size(); ++i) db.cached("INSERT INTO attribution_note VALUES(?,?,?)").bind(run, static_cast<int64_t>(i), a.notes[i]).run();
}

void readDetails(Db& db, Id run, AttributionRecord& a) {
  eachRow(db, kDetail, run, [&](const Statement& s) {
    a.tricks = s.text(0);
    a.proxy = s.text(1);
    a.spanFirst = static_cast<int>(s.integer(2));
    a.spanLast = static_cast<int>(s.integer(3));
    a.proxyForwards = s.integer(4);
    a.proxyTokens = s.integer(5);
    a.knownForwards = s.integer(6);
    a.parameterTokens = s.real(7);
    a.passages = static_cast<int>(s.integer(8));
    a.dropped = static_cast<int>(s.integer(9));
    a.samples = static_cast<int>(s.integer(10));
    a.seed = s.integer(11);
    a.confidence = s.realOrNone(12);
    a.comparedWith = s.integerOrNone(13);
    std::istringstream marked(s.text(14));
    for (int number = 0; marked >> number;) a.supporting.push_back(number);
    a.levelsJson = s.text(15);
    a.forecastsJson = s.text(16);
    a.responseTokens = valuesOf<int32_t>(s.bytes(17));
    a.responseEnds = valuesOf<int64_t>(s.bytes(18));
  });
  eachRow(db, kSourceDetail, run, [&](const Statement& s) {
    const auto source = std::ranges::find(a.sources, static_cast<int>(s.integer(0)), &AttributionSource::id);
    if (source == a.sources.end()) return;
    source->standardError = s.realOrNone(1);
    source->ablatedLogProb = s.realOrNone(2);
    source->label = s.text(3);
  });
  eachRow(db, kNotes, run, [&](const Statement& s) { a.notes.push_back(s.text(0)); });
}

}  // namespace

std::vector<std::string> attributionQueries() { return {kAttribution, kSources, kDetail, kSourceDetail, kNotes, kOutcomes}; }

void replaceAttribution(Db& db, Id run, const AttributionRecord& a) {
  db.run("DELETE FROM attribution_source WHERE run_id=?", run);
  db.run(
      "INSERT INTO attribution VALUES(?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET method=excluded.method, unit=excluded.unit, "
      "context=excluded.context, question=excluded.question, response=excluded.response, base_logprob=excluded.base_logprob, "
      "noise_floor=excluded.noise_floor, n_forward=excluded.n_forward, forward_tokens=excluded.forward_tokens, wall_ns=excluded.wall_ns, "
      "complete=excluded.complete",
      run, a.method, a.unit, a.context, a.question, a.response, a.baseLogProb, a.noiseFloor, a.forwards, a.forwardTokens, a.wallNs,
      a.complete);
  for (const AttributionSource& s : a.sources) {
    Statement& insert = db.cached("INSERT INTO attribution_source VALUES(?,?,?,?,?,?,?)").bind(run, s.id, s.start, s.end, s.text, s.score);
    if (s.perToken.empty()) insert.add(nullptr);
    else insert.add(blobOf(s.perToken));
    insert.run();
  }
  replaceDetails(db, run, a);
}

void insertOutcomes(Db& db, Id run, const std::vector<AttributionOutcome>& outcomes, Outcome& outcome) {
  for (const AttributionOutcome& each : outcomes) {
    std::string kept;
    for (const bool keep : each.keep) kept += keep ? '1' : '0';
    try {
      db.cached("INSERT INTO attribution_outcome SELECT ?1, ifnull((SELECT max(seq) + 1 FROM attribution_outcome WHERE run_id=?1), 0), ?2, ?3, ?4, ?5")
          .bind(run, each.origin, kept, blobOf(each.logProbs), each.tokensFed)
          .run();
      ++outcome.written;
    } catch (const SqlError& error) {
      if (!rowAtFault(error)) throw;
      ++outcome.refused;
      outcome.why = error.what();
    }
  }
}

std::optional<AttributionRecord> readAttribution(Db& db, Id run) {
  std::optional<AttributionRecord> found;
  eachRow(db, kAttribution, run, [&](const Statement& s) {
    AttributionRecord& a = found.emplace();
    a.method = s.text(0);
    a.unit = s.text(1);
    a.context = s.text(2);
    a.question = s.text(3);
    a.response = s.text(4);
    a.baseLogProb = s.real(5);
    a.noiseFloor = s.real(6);
    a.forwards = s.integer(7);
    a.forwardTokens = s.integer(8);
    a.wallNs = s.integer(9);
    a.complete = s.integer(10) != 0;
  });
  if (!found) return found;
  eachRow(db, kSources, run, [&](const Statement& s) {
    AttributionSource& source = found->sources.emplace_back();
    source.id = static_cast<int>(std::clamp<int64_t>(s.integer(0), INT32_MIN, INT32_MAX));
    source.start = s.integer(1);
    source.end = s.integer(2);
    source.text = s.text(3);
    source.score = s.realOrNone(4);
    source.perToken = valuesOf<float>(s.bytes(5));
  });
  if (hasDetails(db)) readDetails(db, run, *found);
  return found;
}

std::vector<AttributionOutcome> readOutcomes(Db& db, Id run) {
  std::vector<AttributionOutcome> all;
  if (!hasDetails(db)) return all;
  eachRow(db, kOutcomes, run, [&](const Statement& s) {
    AttributionOutcome& outcome = all.emplace_back();
    outcome.origin = s.text(0);
    for (const char flag : s.text(1)) outcome.keep.push_back(flag == '1');
    outcome.logProbs = valuesOf<double>(s.bytes(2));
    outcome.tokensFed = s.integer(3);
  });
  return all;
}

}  // namespace winnow::storage
