// SPDX-License-Identifier: GPL-3.0-or-later
// Inside a Session. session.cpp feeds tokens, adopt.cpp takes in new configurations, observe.cpp answers questions.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <thread>

#include "engine/cache/evictor.h"
#include "engine/cache/kv_cache.h"
#include "engine/core/device_failure.h"
#include "engine/core/published.h"
#include "engine/run/backend.h"
#include "engine/run/core.h"
#include "engine/run/sparsity.h"

namespace winnow {

// Runs calls on a thread of low priority; the caller sleeps meanwhile.
class BackgroundThread {
 public:
  explicit BackgroundThread(int nice);
  ~BackgroundThread();
  void run(const std::function<void()>& call);  // rethrows what it throws

 private:
  void work(int nice);
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* call_ = nullptr;
  std::exception_ptr thrown_;
  bool stop_ = false;
  std::thread thread_;
};

struct Session::Impl {
  // A request as resolved when it was made.
  struct Request {
    Effective wanted;
    WeightTarget weights;
    std::string cause;
    std::string weightsFailure{};  // why the weights could not be made
  };
  using Weights = std::shared_ptr<const WeightSet>;

  Impl(std::shared_ptr<EngineCore> engineCore, const SessionOptions& sessionOptions, int contextTokens);
  ~Impl();

  // session.cpp
  Status prefill(std::span<const int32_t> fed, const Progress& progress, const LogitsSink* sink, size_t sinkFrom = 0);
  Status checkTokens(std::span<const int32_t> fed) const;
  // As many tokens of each sequence, together; the first one computes.
  struct Feeding {
    Fed as = Fed::token;
    bool decodes = false;  // activations may be left out; a prompt of one token is computed whole as any
    const LogitsSink* sink = nullptr;
    int sinkFirst = 0, sinkFrom = 0;
    int criticalBudget = 0;
  };
  static Status feed(std::span<Impl* const> all, std::span<const int32_t> batch, const Feeding& feeding);
  static void leaveOut(std::span<Impl* const> all);  // of the step that comes
  static Status stepAll(std::span<Impl* const> all, std::span<const int32_t> next);
  void took(std::span<const int32_t> fedNow, Fed as);
  Status canStepWith(const Impl& first) const;
  Status foldLogits();
  void holdPrompt(int64_t count);  // decides whether a prompt of so many tokens is quantized at its end
  size_t tappedRows() const;
  void evict();
  void clear();
  void fitCache();  // followers keep no keys, dropped layers and those that read another's cache nothing
  Status rebuild(const Progress& progress);
  // What a device refuses ends the call with a sentence, not the program.
  template <class Call>
  static Status guarded(int64_t token, Call&& call) {
    try {
      return call();
    } catch (const std::bad_alloc&) {
      return Error{ErrorCode::resources, "Not enough memory for the cache at token " + std::to_string(token) + ".",
                   "Choose a smaller context or evict with kv.policy."};
    } catch (const DeviceFailure& failure) {
      return Error{ErrorCode::failed, std::string(failure.what()) + " It failed at token " + std::to_string(token) + "; the tokens before it are kept.",
                   "Start anew, or use --device cpu."};
    }
  }
  template <class Call>
  auto onOwnThread(Call&& call) {
    if (!background) return call();
    std::optional<decltype(call())> out;
    background->run([&] { out.emplace(call()); });
    return std::move(*out);
  }

  // adopt.cpp
  Request makeRequest(const Config& config, const std::string& cause) const;
  void request(const Config& config, const std::string& cause);
  void adopt();
  Status finishPending(const Progress& progress);
  Result<Weights> buildNow(const WeightTarget& target, const Progress& progress);
  void start(Request first, Weights set);  // of a new session
  void reserveScratch();
  void apply(const Weights& prepared, const std::optional<Error>& failure);
  void fitBackend(const WeightSet& set);  // one made for other heads gives way, with its cache, which is empty
  void takeLayersBack();
  void takeWeights(const Weights& prepared, const std::optional<Error>& failure, Effective& next);
  void takeSharing(Effective& next);
  std::string whyNotYet(const WeightSet& set, const Config& next) const;  // what the cache lacks for it; "" when nothing
  std::vector<LayerSharing> sharingFor(Effective& next) const;
  void takeActivations(Effective& next);
  void takeTwins(Effective& next);
  void takeCacheFormat(const Config& config);
  void beginEpoch(const Effective& next);
  void warnOfDecodedTypes();
  void warnOfSelection();
  void warnOfPlanes();
  int64_t farthest() const;
  void refreshCosts();
  void updateMixed();
  void emit(EngineEvent::Kind kind, std::string code, std::string text);

  std::shared_ptr<EngineCore> core;
  SessionOptions options;
  int context;
  const ModelConfig& model;
  Ledger ledger;  // this session's cache and activations, posted to the engine's as well
  ThreadPool pool;
  std::optional<BackgroundThread> background;
  BackendOptions backendOptions;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Backend> replaced;  // while a cache of it may come back
  std::unique_ptr<KvCache> cache;  // never null
  Evictor evictor;

  // Configuration. The mutex guards what request() shares with the session's thread.
  mutable std::mutex mutex;
  std::optional<Request> requested;    // not yet taken
  std::shared_ptr<WeightJob> job;      // being prepared
  Weights newest;                      // the set adopted last
  Request current;                     // taken
  Published<Effective> effective;
  Weights weights;
  Weights waiting;                     // bring back layers or heads that the cache has nothing of: for when it is empty
  Plan plan;
  Activations activations{};
  SessionSparsity sparsity;
  Published<MemoryByTag> weightMemory;

  // The sequence.
  std::vector<int32_t> tokens;
  int64_t fed = 0;
  uint64_t hash = 0;
  bool rebuilding = false;
  bool promptHeld = false;             // pages of the prompt wait for its end to be quantized
  std::string writtenUnder;            // weights the cache was written with
  bool writtenMixed = false;
  std::optional<EvictionSettings> evictedUnder;
  std::atomic<bool> mixed{false};
  std::vector<EngineEvent> events;
  bool observing = false;
  AttentionTap* attention = nullptr;
  std::vector<OpTime> opTimes;
  std::atomic<double> prefillMsPerToken{0};
  std::atomic<int64_t> fedPublished{0};
  int64_t weightBytes = 0;             // read per decoded token
  int criticalBudget = 0, segment = 0; // of prompts (CritiPrefill), tokens; 0: every token attends to all before it
};

}  // namespace winnow
