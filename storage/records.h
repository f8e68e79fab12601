// SPDX-License-Identifier: GPL-3.0-or-later
// What a session file holds, as plain values. Storage knows nothing of the engine: configurations come as name -> text or
// number, JSON stays text.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace winnow::storage {

using Id = int64_t;

struct KnobSetting {
  std::string name, type, unit;                       // type: boolean integer real enumeration text path
  std::variant<double, std::string> value;            // booleans are 0/1
  std::string apply = {};                             // next_token rebuild_cache prepare_weights reload; may be empty
};

struct ConfigRecord {
  std::string canonicalJson;  // {"weights.bits":4,...}: identity; "" = made from the settings
  std::vector<KnobSetting> settings;
};

struct EnvironmentRecord {
  std::string os, kernel, cpuModel, cpuFeatures, appVersion, sourceRevision, compiler, buildFlags;
  int coresPhysical = 0, coresLogical = 0;
  int64_t ramBytes = 0;
  std::string extraJson = "{}";
};

struct DeviceRecord {
  std::string kind = "cpu", name;
  int64_t memoryBytes = 0;
  int threads = 0;
  std::string detail;  // "avx512+vnni+bf16"
};

struct ModelRecord {
  std::string sha256;    // hex; "" while unknown: then size, mtime and path identify it
  bool verified = false;
  std::string path, format, architecture, typeSummary, name;
  int64_t fileBytes = 0, mtimeUs = 0, parameters = 0;
  int layers = 0, heads = 0, kvHeads = 0, headDim = 0, context = 0, vocab = 0;
};

enum class RunKind { generate, evaluate, bench, attribute };
enum class RunStatus { queued, running, done, failed, cancelled, interrupted };
std::string_view runKindName(RunKind kind);
std::string_view runStatusName(RunStatus status);
std::optional<RunKind> findRunKind(std::string_view name);

struct NewRun {
  RunKind kind = RunKind::generate;
  std::string name;
  ModelRecord model;
  DeviceRecord device;
  EnvironmentRecord environment;
  ConfigRecord requested, effective;
  std::string divergenceJson = "[]";  // [{"knob","requested","effective","reason"}]
  std::string prompt;                 // text, generate and attribute
  std::string corpusName, corpusSha256;  // evaluate, bench on text
  int64_t corpusBytes = 0;
  std::string protocol;               // evaluate, bench, attribute
  std::string specJson = "{}";        // the experiment as in a plan
  int64_t seed = 0;
  int repeat = 0;
  std::optional<Id> sweep;            // with the point's ordinal
  int sweepOrdinal = -1;
};

struct TokenSample {
  int64_t index = 0;
  bool prefill = false;
  int32_t token = 0;
  int64_t tNs = 0, durationNs = 0;   // since the run's start
  std::optional<double> nll, entropy;
  std::optional<double> joules;      // of the device, where its power is known
  int64_t kvLive = 0, kvEvicted = 0, kvBytes = 0;
  int epoch = 0;
  std::string piece;                 // the token's bytes
};
struct MemorySample {
  int64_t atToken = 0;
  std::string tag;
  int64_t bytes = 0;
};
struct KnobEvent {
  int64_t atToken = 0, tNs = 0;
  std::string knob, oldValue, newValue, cause, reason;  // cause: user undo redo preset sweep fallback
  int epoch = 0;
};
struct EventRecord {
  int64_t tNs = 0;
  std::string level, code, text;     // info notice warning error
};
struct WindowSample {
  int window = 0;
  int64_t firstToken = 0;
  int count = 0;
  double nllSum = 0, nllSquaredSum = 0, kldSum = 0;
  int sameTop = 0;
};
struct RetrievalSample {               // one question of a retrieval; sums over the tokens of its answer
  int item = 0;
  int length = 0;                      // tokens of context asked for; 0 = it was given
  std::optional<double> depth = {};    // of the fact, 0..1
  int64_t promptTokens = 0;
  int count = 0;
  bool found = false;
  double nllSum = 0;
  std::optional<bool> baseFound = {};
  double baseNllSum = 0, kldSum = 0;
  int sameTop = 0;
};
struct BenchSample {
  std::string test;
  int repetition = 0;
  int tokens = 0, depth = 0;
  double seconds = 0, tokensPerSecond = 0;
};
struct Metric {  // summary numbers of a run: "perplexity", "ms_per_token", "memory_peak", "kld_mean" ...
  std::string name, unit, better;    // lower higher none
  int64_t n = 0;
  double value = 0;                  // mean, or the number itself
  std::optional<double> sd = {}, p50 = {}, p95 = {}, ciLow = {}, ciHigh = {};
};
struct AttributionSource {
  int id = 0;
  int64_t start = 0, end = 0;
  std::string text;
  std::optional<double> score;
  std::vector<float> perToken = {};                  // [response tokens]
  std::optional<double> standardError = {}, ablatedLogProb = {};
  std::string label = {};
};
struct AttributionOutcome {  // one forward: what it kept, and log p of each response token
  std::string origin;                                // target proxy noise
  std::vector<bool> keep;                            // [sources]
  std::vector<double> logProbs;
  int64_t tokensFed = 0;
};
struct AttributionRecord {
  std::string method, unit, context, question, response;
  double baseLogProb = 0, noiseFloor = 0;
  int64_t forwards = 0, forwardTokens = 0, wallNs = 0;
  bool complete = false;
  std::vector<AttributionSource> sources = {};
  // How it was done, and what a later run needs to go on or to score another part of the response.
  std::string tricks = {}, proxy = {};                         // of attribot; the proxy's file
  std::vector<int32_t> responseTokens = {};
  std::vector<int64_t> responseEnds = {};                 // bytes
  int spanFirst = 0, spanLast = 0;                   // response tokens scored
  int64_t proxyForwards = 0, proxyTokens = 0, knownForwards = 0;
  double parameterTokens = 0;
  int passages = 0, dropped = 0;                     // of a list: given, and left out because the model's context was full
  std::vector<int> supporting = {};                       // passages marked by a data set
  int samples = 0;
  int64_t seed = 0;
  std::optional<double> confidence = {};
  std::optional<Id> comparedWith = {};                    // the run of the other side
  std::vector<std::string> notes = {};
  std::string levelsJson = "[]", forecastsJson = "[]";  // coarser levels; what a budget weighed
};
struct OpStat {
  std::string op;
  int layer = -1;
  bool prefill = false;
  int64_t n = 0, sumNs = 0, p50Ns = 0, p95Ns = 0, bytes = 0, flops = 0;
};

struct RunSummary {  // one row of the run table
  Id id = 0;
  std::string uuid, name, notes;
  RunKind kind = RunKind::generate;
  RunStatus status = RunStatus::queued;
  bool baseline = false;
  std::string model, modelPath, architecture, device, threads, protocol, corpus;
  std::map<std::string, std::string> requested, effective;  // changed knobs only
  std::string divergenceJson;
  std::optional<int64_t> startedUs, endedUs;
  int64_t seed = 0;
  int repeat = 0;
  int64_t tokens = 0;                 // samples stored
  std::string errorText;
  std::map<std::string, Metric> metrics;
  std::optional<Id> sweep;
};

enum class PointState { todo, running, done, failed, skipped };
struct SweepPoint {
  int ordinal = 0;
  int repeat = 0;
  ConfigRecord config;
  std::string specJson;               // its experiment
  PointState state = PointState::todo;
  std::optional<Id> run;
  std::string note;                   // why skipped or failed
};
struct SweepRecord {
  Id id = 0;
  std::string name, planJson;
  std::vector<SweepPoint> points;
};

}  // namespace winnow::storage
