// SPDX-License-Identifier: GPL-3.0-or-later
// One GPU as a device. A step of one token is a captured graph, replayed until something changes: weights, cache, sharing, activations, thresholds,
// whether ops are timed, or the bound on the lengths, which grows by powers of two. Everything else is queued op by op.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda/graph.h"
#include "engine/model/config.h"
#include "engine/run/backend.h"
#include "engine/sparsify/skipped.h"
#include "engine/sparsify/step.h"

namespace winnow::cuda {

class CudaBackend final : public Backend, public SparseBackend {
 public:
  // `device` counts what is in the GPU's memory; `caches` numbers them.
  CudaBackend(Ledger& host, Ledger& device, int ordinal, const ModelConfig& model, const BackendOptions& options, std::atomic<uint64_t>& caches);
  ~CudaBackend() override;

  int batch() const override { return options_.batch; }
  std::unique_ptr<KvCache> makeCache(int context) override;
  void run(const ForwardInput& input) override;
  void observe(KvCache& cache, int window) override;
  void leaveOut(std::span<const SparseStep* const> sequences) override { sparse_.assign(sequences.begin(), sequences.end()); }
  void releaseProbabilities() override { forward_.releaseProbabilities(); }
  void keepTwins(const WeightSet& weights, PrefillTwin mode) override { forward_.products().twins().follow(weights.serial, mode); }
  std::string whyNoTwins() const override;
  std::string takeTwinNote() override { return forward_.products().twins().takeNote(); }
  void reserveLike(const Backend&) override {}  // rows are taken at once, the rest with the lengths
  MemoryByTag memory() const override { return device_.snapshot(); }
  std::span<const float> logits() const override { return {hostLogits_.as<float>(), static_cast<size_t>(model_.vocab)}; }
  void setLogits(const float* row) override;
  void score(const float* logits, std::span<const int32_t> targets, TokenScore* out) override;
  void compare(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out) override;
  int32_t sample(std::span<const int32_t> history, const SamplerSettings& settings, uint64_t position) override;
  double readBandwidth(size_t bytes) override;
  double peak(Storage storage, ActivationMode mode, int bits) override;

  int captures() const { return captures_; }  // graphs made so far

 private:
  struct GraphKey {
    uint64_t weights = 0, cache = 0, forms = 0, room = 0;
    int slots = 0;
    std::vector<int> leaders;
    const float *sums = nullptr, *queries = nullptr;
    int remembered = 0;  // queries
    Activations activations{};
    bool timed = false, rotates = false, turns = false;
    double selection = 0;
    const uint16_t* bounds = nullptr;
    int blockStride = 0, aligned = 0;
    const int32_t* unread = nullptr;
    uint64_t sparse = 0;  // serial of what the token leaves out; 0: nothing
    bool operator==(const GraphKey&) const = default;
  };
  void reserveSlice();
  int64_t roomForTwins(const ForwardInput& input) const;
  void makeMarks(const ForwardInput& input);
  void step(const ForwardInput& input);  // one row, replayed
  void pass(const ForwardInput& input);  // any rows
  void lastLogits(const ForwardInput& input, int row);
  void fetchLogits();
  void sinkLogits(const ForwardInput& input);
  void fillTimes(const ForwardInput& input);
  void countSkipped(const ForwardInput& input);
  // Rows of logits in device memory: where they are already, or copied to `spare`.
  const float* onDevice(const float* host, int rows, DeviceBuffer& spare);
  void sendTargets(std::span<const int32_t> targets, size_t answerBytes);

  const int ordinal_;
  BackendOptions options_;
  const ModelConfig& model_;           // options_.shape where that is given
  Ledger& host_;
  Ledger device_;
  const Ledger& whole_;                // all that is in the GPU's memory
  OwnStream stream_;
  std::atomic<uint64_t>& caches_;
  Forward forward_;
  DeviceBuffer logits_, slice_;        // f32 [vocab], [sliceRows, vocab]
  PinnedBuffer hostLogits_, hostSlice_;
  int sliceRows_ = 0, sliceHeld_ = 0;  // rows that fit; rows the sink is being shown
  bool logitsOnDevice_ = false;        // logits_ is what hostLogits_ is
  DeviceBuffer baseRows_, otherRows_, targets_, answers_, history_, sampled_;
  GraphKey key_;
  std::unique_ptr<CapturedStep> graph_;
  std::vector<Skip> graphSkips_;            // of the step that it replays
  std::vector<const SparseStep*> sparse_;   // of the sequences of the next run
  std::vector<Skip> skipping_;              // of the pass at hand
  std::vector<Skipped> skipped_;            // [ops] of it
  std::unique_ptr<EventMarks> marks_;
  size_t markedOps_ = 0;
  int64_t sinkNs_ = 0;
  int captures_ = 0;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const ModelConfig& model, Ledger& engine, int ordinal, std::string description, std::string busId = {})
      : model_(model), ledger_(false, &engine), ordinal_(ordinal), description_(std::move(description)), busId_(std::move(busId)) {}
  std::string description() const override { return description_; }
  std::string busId() const override { return busId_; }
  std::unique_ptr<Backend> makeBackend(Ledger& ledger, ThreadPool& pool, const BackendOptions& options) override;
  std::unique_ptr<WeightPlace> makeWeightPlace(Ledger& ledger) override;
  std::optional<std::string> refuses(std::string_view knob, const KnobValue& value) const override;
  std::optional<DeviceMemory> memory() const override;

 private:
  const ModelConfig& model_;
  Ledger ledger_;  // all that is in the GPU's memory
  int ordinal_;
  std::string description_, busId_;
  std::atomic<uint64_t> caches_{0};
};

}  // namespace winnow::cuda
