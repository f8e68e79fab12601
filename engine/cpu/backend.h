// SPDX-License-Identifier: GPL-3.0-or-later
// The CPU as a device: executes a plan op by op on a pool of threads.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/cpu/critical_blocks.h"
#include "engine/cpu/kv_cache.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/sparse.h"
#include "engine/run/backend.h"
#include "engine/sparsify/step.h"
#include "engine/weights/store.h"

namespace winnow::cpu {

struct ErrorTarget;  // engine/cpu/errors.h

// Rows of a batch. Under a planning ledger they are counted only.
struct ActivationBuffers {
  ActivationBuffers(Ledger& ledger, const ModelConfig& model, int batch);
  Buffer residual, normed;  // f32 [batch, hidden], of which a sliced stream uses rows of its own width
  Buffer q, attended;       // [batch, heads * headDim]
  Buffer k, v;              // [batch, kvHeads * headDim]
  Buffer gate, up;          // [batch, ffn], of which a layer uses its own width; gate is empty for an ungated ffn
  Buffer logits;            // [vocab]
};

class CpuBackend final : public Backend, public SparseBackend {
 public:
  CpuBackend(Ledger& ledger, const ModelConfig& model, ThreadPool& pool, Isa isa, const BackendOptions& options);

  int batch() const override { return options_.batch; }
  std::unique_ptr<KvCache> makeCache(int context) override;
  void run(const ForwardInput& input) override;
  void observe(KvCache& cache, int window) override;
  void leaveOut(std::span<const SparseStep* const> sequences) override { sparse_.assign(sequences.begin(), sequences.end()); }
  void releaseProbabilities() override { probabilities_ = Buffer(); }
  void keepTwins(const WeightSet&, PrefillTwin) override {}
  std::string whyNoTwins() const override { return "the CPU multiplies packed weights as they are stored."; }
  void reserveLike(const Backend& planned) override;
  MemoryByTag memory() const override { return {}; }  // the session's ledger has it all
  std::span<const float> logits() const override { return {buffers_.logits.as<float>(), static_cast<size_t>(model_.vocab)}; }
  void setLogits(const float* row) override;
  void score(const float* logits, std::span<const int32_t> targets, TokenScore* out) override;
  void compare(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out) override;
  int32_t sample(std::span<const int32_t> history, const SamplerSettings& settings, uint64_t position) override;
  double readBandwidth(size_t bytes) override { return measureReadBandwidth(context_, bytes); }
  double peak(Storage storage, ActivationMode mode, int bits) override { return measurePeak(context_, storage, mode, bits); }

 private:
  struct Step;
  struct Linear;
  void embed(const Step& step);
  void project(const Step& step, const Op& op);   // qkv, qOnly and vOnly
  void append(const Step& step, const Op& op, const float* k, const float* v);
  void turn(const Step& step, const Op& op, float* q, float* k /* or null */);  // norms of heads, RoPE
  void rotate(const Step& step, float* q, float* k /* or null */);  // for the caches that keep rotated keys
  void attend(const Step& step, const Op& op);    // attend and attendReuse
  void output(const Step& step, const Op& op);    // o or down, added to the residual
  void shortcut(const Step& step, const Op& op);  // the residual, in the directions of the next point
  void gateUp(const Step& step, const Op& op);
  int64_t logitsOf(const Step& step);             // ns spent in the op alone
  void normalize(const Step& step, int firstRow, int rows, const float* weight, const float* bias);  // of the residual
  void matmul(std::span<const MatmulTarget> targets, const float* x, int64_t stride, int tokens, Activations activations);
  void addErrors(std::span<const ErrorTarget> targets, const float* x, int64_t stride, const Step& step);
  // Matrices that see one input, and what they lack.
  void linear(const Step& step, const Op& op, LinearInput input, std::span<const Linear> linears, float* x, int64_t stride);
  // backend_sparse.cpp, one row of several sequences: where a threshold stands, x loses what lies below it.
  void linearRow(const Step& step, const Op& op, int row, LinearInput input, std::span<const Linear> linears, float* x);
  void gateUpRow(const Step& step, const Op& op, int row);
  void chosenNeurons(const Step& step, const Op& op, int row, const SparseLayer& sparse);
  void denseRow(const Step& step, std::span<const Linear> linears, const float* x);
  void rowErrors(const Step& step, std::span<const Linear> linears, const float* x);
  void skipped(const Step& step, const Op& op, int row, size_t place, std::span<const Linear> linears, int64_t kept, int64_t of);
  void keepProbabilities(const Step& step, const Op& op);
  const CriticalBlocks* chooseBlocks(const Step& step, const Op& op, const AttendArgs& args);  // null: all are attended to
  void attendAligned(const Step& step, const Op& op, const SequenceRows& sequence, int64_t row);
  AttendArgs attendArgs(const HostKvCache& cache) const;  // what is the model's and the cache's

  Ledger& ledger_;
  BackendOptions options_;
  const ModelConfig& model_;
  Context context_;
  ActivationBuffers buffers_;
  Buffer sinkLogits_;                 // [slice, vocab], made when first asked for
  Buffer probabilities_;              // [heads, queries, stride] of the leader, of each sequence in turn
  bool materialised_ = false;         // the last leader's probabilities are in the buffer
  int64_t probabilityStride_ = 0;
  std::unique_ptr<CriticalBlocks> blocks_;         // made for the first segment that chooses
  const CriticalBlocks* critical_ = nullptr;       // of the last layer that attended itself
  std::vector<float> frequencies_;
  std::vector<int32_t> positions_;
  std::vector<const SparseStep*> sparse_;          // of the sequences of the next run
  std::vector<int32_t> kept_;                      // channels that take part
  int64_t skippedBytes_ = 0, skippedFlops_ = 0;    // of the op at hand
};

class CpuDevice final : public Device {
 public:
  CpuDevice(const ModelConfig& model, int threads, Isa isa) : model_(model), threads_(threads), isa_(isa) {}
  std::string description() const override;
  std::unique_ptr<Backend> makeBackend(Ledger& ledger, ThreadPool& pool, const BackendOptions& options) override;
  std::unique_ptr<WeightPlace> makeWeightPlace(Ledger& ledger) override { return std::make_unique<HostPlace>(ledger); }
  std::optional<std::string> refuses(std::string_view knob, const KnobValue& value) const override {
    if (knob == "compute.activations" && std::get<std::string>(value) == "fp8") return "the CPU has no products of FP8; a GPU of compute capability 8.9 or newer has.";
    return std::nullopt;
  }

 private:
  const ModelConfig& model_;  // the engine's, which outlives its device
  int threads_;
  Isa isa_;
};

}  // namespace winnow::cpu
