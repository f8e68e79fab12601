// SPDX-License-Identifier: GPL-3.0-or-later
// What a session needs of the device it runs on. A Device is an engine's and makes a Backend for each session: rows, scratch and
// whatever executes a plan. Backends know plans, weights and caches, never model families or knobs.
//
// On a planning ledger a backend takes what it would take and computes nothing.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/result.h"
#include "engine/knobs/knobs.h"
#include "engine/plan/numerics.h"
#include "engine/plan/plan.h"

namespace winnow {

class KvCache;
class LinearInputTap;
class ThreadPool;
class WeightPlace;
struct SamplerSettings;
struct WeightSet;

struct OpTime {
  int32_t op;     // index in the plan
  int64_t ns;
  int64_t bytes;  // weight and cache bytes declared by the op
  int64_t flops;
};

// The attention probabilities of a layer, right after they were used.
struct AttentionRows {
  const float* probabilities;  // [heads, queries, stride]; 0 beyond what a query sees
  int64_t stride;
  int heads, queries, columns;  // a column for each slot
  int64_t first;               // position of the first query
};
class AttentionTap {
 public:
  virtual ~AttentionTap() = default;
  virtual void take(int layer, const AttentionRows& rows) = 0;
};

// Rows of logits in host memory, good until the call returns; `first` counts tokens of the call that feeds.
using LogitsSink = std::function<void(int first, int count, const float* logits /* [count, vocab] */)>;

// Consecutive tokens of one sequence, as neighbouring rows of a batch.
struct SequenceRows {
  KvCache* cache;  // made by this backend's device, with room reserved
  int64_t first;   // position of the first token
  int count;
};

// One pass over a batch of rows: consecutive tokens of one sequence, or tokens of several sequences that go through every matrix
// together, each with its own cache.
struct ForwardInput {
  const Plan& plan;
  const WeightSet& weights;
  std::span<const SequenceRows> sequences;
  std::span<const int32_t> tokens;     // of all sequences, in their order; at most a batch
  Activations activations{};
  bool wantLogits = true;              // of the last row
  const LogitsSink* sink = nullptr;    // logits of every row
  int sinkFirst = 0;                   // index the sink is told for tokens[0]
  int sinkFrom = 0;                    // the first of tokens whose logits it is given
  LinearInputTap* tap = nullptr;
  std::vector<OpTime>* times = nullptr;
  AttentionTap* attention = nullptr;
  int criticalBudget = 0;              // > 0: a segment of a prompt, which attends to so many slots before it (CritiPrefill); 0: to all
  std::span<const int> sinkRows{};     // ascending: those of tokens whose logits the sink is given instead, told by their place here
};

// A device that fails throws DeviceFailure, one that is full std::bad_alloc.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual int batch() const = 0;  // most rows of a run
  virtual std::unique_ptr<KvCache> makeCache(int context) = 0;
  virtual void run(const ForwardInput& input) = 0;
  // The attention that the newest `window` queries of a sequence (fewer where it has not kept as many) pay to each slot becomes its cache's
  // column sums. Their own slots have to be there. Layers that follow others' attention are left out.
  virtual void observe(KvCache& cache, int window) = 0;
  virtual void releaseProbabilities() = 0;             // what attention sharing kept of a prompt
  // Whether twins of weights are kept for long prompts (compute.prefill_twin). Those of other weights are let go.
  virtual void keepTwins(const WeightSet& weights, PrefillTwin mode) = 0;
  virtual std::string whyNoTwins() const = 0;          // of any weights; empty: they can be kept
  virtual std::string takeTwinNote() { return {}; }    // why some are not kept although they can be; once, empty when there is nothing to tell
  virtual void reserveLike(const Backend& planned) = 0;  // the scratch that one of this kind on a planning ledger has taken
  virtual MemoryByTag memory() const = 0;              // of it and its caches, beside the session's ledger

  // Of the last row run, [vocab], in host memory.
  virtual std::span<const float> logits() const = 0;
  virtual void setLogits(const float* row) = 0;        // computed by another backend for this one's sequence

  // Rows [tokens, vocab] in host memory against targets; rows of the last run or of the sink's call need no transfer.
  virtual void score(const float* logits, std::span<const int32_t> targets, TokenScore* out) = 0;
  virtual void compare(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out) = 0;
  virtual int32_t sample(std::span<const int32_t> history, const SamplerSettings& settings, uint64_t position) = 0;  // from logits()

  // In-run roofline; 0 where it is not known.
  virtual double readBandwidth(size_t bytes) = 0;                              // GB/s of a streaming read
  virtual double peak(Storage storage, ActivationMode mode, int bits) = 0;  // GFLOP/s of the products of such weights
};

struct BackendOptions {
  int batch = 512;  // rows
  int context = 0;  // tokens
  int64_t probabilityBytes = 0;  // of attention sharing, per batch; above that followers recompute them
  std::shared_ptr<const ModelConfig> shape{};  // WeightSet::narrowShape of what it will run; null: the model's
};

struct DeviceMemory {
  int64_t freeBytes = 0, totalBytes = 0;
  int64_t countedBytes = 0;  // what the ledger has on it
  int64_t spareBytes = 0;    // of those: given back when they are needed
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string description() const = 0;  // "CPU: 2 threads, avx512+vnni+bf16"
  virtual std::string busId() const { return {}; }  // by which NVML knows a GPU
  // For one session; not thread-safe. Memory of the host is posted to the ledger; on a planning one nothing is taken.
  virtual std::unique_ptr<Backend> makeBackend(Ledger& ledger, ThreadPool& pool, const BackendOptions& options) = 0;
  virtual std::unique_ptr<WeightPlace> makeWeightPlace(Ledger& ledger) = 0;
  // Why it can't compute with this value of a knob; the default runs instead.
  virtual std::optional<std::string> refuses(std::string_view /*knob*/, const KnobValue& /*value*/) const { return std::nullopt; }
  virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }  // of a device that has its own
};

}  // namespace winnow
