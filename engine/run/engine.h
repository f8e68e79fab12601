// SPDX-License-Identifier: GPL-3.0-or-later
// Engine: one opened model with its weight versions. Session: one sequence running on it with its cache and configuration.
// Sessions of one engine share equal weight versions, so a baseline beside a changed configuration costs only what differs.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/cpu/ops.h"
#include "engine/cuda/nvml.h"
#include "engine/knobs/knobs.h"
#include "engine/model/model.h"
#include "engine/plan/plan.h"
#include "engine/run/backend.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/residuals.h"

namespace winnow {

struct EngineOptions {
  std::string device = "auto";        // auto, cpu, cuda. cuda without one: Error resources that says what is missing
  int threads = 0;                    // 0 = one per core the process may use
  std::optional<cpu::Isa> isa = {};   // for tests; default the best
  std::string calibrationSample = {}; // text file measured when calibration.text is empty
};

struct SessionOptions {
  int context = 0;      // tokens; 0 = min(trained context, 4096). Beyond the trained length: RoPE warns (note()), learned positions refuse
  int threads = 0;      // 0 = the engine's
  bool background = false;  // low priority, on a thread of its own (calls wait for it): for quality probes beside generation
  int maxBatch = 512;   // prefill micro-batch, tokens
  int64_t probabilityBytes = int64_t{256} << 20;  // of attention sharing, per micro-batch; above that followers recompute them
  int64_t promptCacheBytes = 0;  // of a prompt's keys and values in 16 bits, which wait for its end to be quantized; above that they don't. 0: what is free
};

// A condition a person should see, with the token index where it happened.
struct EngineEvent {
  enum class Kind : uint8_t { epoch, published, evicted, fallback, warning } kind{};
  int64_t token = 0;        // tokens fed since reset() when it took effect
  std::string code;         // "kv.policy", "weights.published", "context.beyond_trained"
  std::string text;         // for a person
  std::string cause;        // epoch: user, undo, redo, preset, sweep, fallback
  std::vector<Adjustment> changes;  // epoch: knob, old value, new value (requested = old, effective = new), reason if clamped
};

struct CacheStats {
  int64_t liveTokens = 0;       // mean over (layer, kv head) pairs that own keys or values, rounded
  int64_t evictedTokens = 0;    // tokens fed - liveTokens
  int64_t allocatedBytes = 0;   // pages * page bytes
  int64_t liveBytes = 0;        // kept tokens * bytes
  int64_t unsealedBytes = 0;    // of those allocated: 16-bit pages that are not quantized yet, though the format is
};

// Occupancy of the cache for a map: which original positions each (layer, kv head) still holds.
struct HeadPositions {
  int layer, kvHead;
  bool ownsKeys;                  // false: a follower
  std::vector<int32_t> positions;  // ascending
};

class Session;
struct EngineCore;

class Engine {
 public:
  static Result<std::shared_ptr<Engine>> create(std::shared_ptr<const Model> model, const EngineOptions& options);
  ~Engine();

  const Model& model() const;
  std::shared_ptr<const Model> modelPointer() const;
  std::shared_ptr<const Tokenizer> tokenizer() const;  // null when the file has no vocabulary
  std::string deviceDescription() const;               // "CPU: 2 threads, avx512+vnni+bf16"
  std::optional<DeviceMemory> deviceMemory() const;    // of a device that has its own; [any thread]
  int threads() const;
  Effective resolved(const Config& requested) const;   // what of it runs on this model and this device
  std::optional<cuda::GpuState> gpuState() const;      // clocks, power, energy; none on the CPU and where NVML is absent. [any thread]
  const Ledger& ledger() const;  // weights of all versions and all sessions

  // Prepares the weights the configuration needs (blocking, with progress), then a session on them.
  Result<std::unique_ptr<Session>> createSession(const Config& config, const SessionOptions& options, const Progress& progress);

  // How much each layer turns the residual stream of the dense model over the calibration text of a configuration; measured once. [any thread]
  Result<std::vector<LayerInfluence>> layerInfluence(const Config& config, const Progress& progress);

  // What createSession plus a run of `tokens` tokens would use, by the allocating code on a planning ledger.
  // promptCache, where it is asked for: the most that the cache takes while the tokens but the last are read as one prompt.
  Result<MemoryByTag> plan(const Config& config, const SessionOptions& options, int tokens, int64_t* promptCache = nullptr) const;

 private:
  friend struct EngineCore;
  explicit Engine(std::shared_ptr<EngineCore> core);
  std::shared_ptr<EngineCore> core_;  // sessions hold it too
};

// All members are for one thread (the engine thread) unless marked [any thread].
class Session {
 public:
  ~Session();

  // ---- configuration ----
  // Adopted at the next boundary: before the next prefill chunk or token. Weight changes are adopted when the background
  // converter has published them; until then effective() keeps the old weights and pending() is true. [any thread]
  void request(const Config& config, const std::string& cause = "user");
  // Adopts what can be adopted now, without a token (so that an idle session answers). Called by prefill and step.
  void adopt();
  std::shared_ptr<const Effective> effective() const;  // [any thread] what runs now
  bool pending() const;                                 // [any thread] a weight version is being prepared
  double pendingFraction() const;                       // [any thread]
  Status finishPending(const Progress& progress);       // blocks until prepared and adopts
  // A wider cache setting (or new weights) was adopted after the cache was written under another one: results mix until
  // rebuildCache() or reset(). DESIGN §2.
  bool cacheMixed() const;                              // [any thread]
  Status rebuildCache(const Progress& progress);        // feeds the tokens again under the present configuration
  double rebuildCostMs() const;                         // estimate from measured prefill speed; 0 = unknown

  // ---- running ----
  void reset();  // empty cache, position 0
  // Back to after the first `tokens` tokens, whose keys and values are kept. Returns the new position: `tokens`, or 0 as after reset()
  // where the cache evicts, has lost slots or was written with other weights.
  int64_t rewind(int64_t tokens);
  // Feeds tokens; logits() is the last token's afterwards. With onLogits every position's logits are given in order, in
  // slices [count, vocab] of consecutive tokens from token logitsFrom on; `first` counts from the first token of this call. Cancelled (Error cancelled), the
  // tokens fed so far stay.
  using LogitsSink = winnow::LogitsSink;
  Status prefill(std::span<const int32_t> tokens, const Progress& progress, const LogitsSink& onLogits = {}, size_t logitsFrom = 0);
  Status step(int32_t token);                  // one token of decode
  // One token of each of several sequences, whose rows go through every matrix together: the weights are read once, and each gets
  // bit for bit the logits that step() gives it (on a GPU up to eight of them; more go through other kernels). The sessions share one engine, weights, activations and attention sharing; caches are
  // their own. The first one's threads and batch are used. Nothing is fed on an error.
  static Status stepTogether(std::span<Session* const> sessions, std::span<const int32_t> tokens);
  std::span<const float> logits() const;       // [vocab] of the last token
  int64_t position() const;                    // tokens fed
  const std::vector<int32_t>& tokens() const;  // those fed since reset
  int context() const;
  int vocab() const;                      // entries of logits()
  int64_t parameters() const;             // of the model
  // StreamingLLM-type policies fire at their interval; this fires the policy now (end of a prefill in stepwise scoring).
  void applyPolicyNow();

  // ---- observation ----
  void observeOps(bool on);
  std::span<const OpTime> opTimes() const;     // of the last step or prefill chunk; empty when off
  void observeAttention(AttentionTap* tap);    // of everything fed from now on; null = nobody. The tap outlives its use
  std::vector<EngineEvent> takeEvents();       // since the last call
  MemoryByTag memory() const;                  // [any thread] this session's cache and activations plus the weights it reads
  CacheStats cache() const;
  std::vector<HeadPositions> occupancy() const;
  const Plan& plan() const;
  int streamWidth() const;                     // of the residual stream
  int ffnWidth(int layer) const;               // channels that its feed-forward computes; 0 where it has none
  uint64_t logitsHash() const;                 // folds the logits of every step since reset
  int threads() const;                         // of this session
  // Rows [tokens, vocab] of logits against targets, scored where the session computes (Backend::score).
  void scoreLogits(const float* logits, std::span<const int32_t> targets, TokenScore* out);
  void compareLogits(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out);
  // The token drawn for the present position from logits().
  int32_t sample(std::span<const int32_t> history, const SamplerSettings& settings);
  double measureReadBandwidth(size_t bytes);   // in-run roofline, GB/s; 0 = unknown
  double measurePeak(Storage storage, ActivationMode mode, int bits);  // GFLOP/s; 0 = unknown
  int64_t weightBytesPerToken() const;         // bytes a decode step reads from weights
  int64_t kvBytesPerToken() const;             // and from the cache at its present length

 private:
  friend struct EngineCore;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace winnow
