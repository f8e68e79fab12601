// SPDX-License-Identifier: GPL-3.0-or-later
// Executes a plan on the CPU for a batch of rows: consecutive tokens of one sequence, or tokens of several sequences that go through
// every matrix together, each with its own cache. On a planning ledger it takes what it would take and computes nothing.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/cache/kv_cache.h"
#include "engine/core/memory.h"
#include "engine/cpu/ops.h"
#include "engine/plan/plan.h"
#include "engine/run/engine.h"
#include "engine/weights/calibration.h"
#include "engine/weights/store.h"

namespace winnow {

enum class Activations : uint8_t { automatic, f32, sixteenBit, int8 };  // compute.activations
Activations activationsOf(const std::string& knob);
cpu::ActivationMode activationMode(Activations chosen, Storage weights);

// Rows of a batch. Under a planning ledger they are counted only.
struct ActivationBuffers {
  ActivationBuffers(Ledger& ledger, const ModelConfig& model, int batch);
  Buffer residual, normed;  // f32 [batch, hidden]
  Buffer q, attended;       // [batch, heads * headDim]
  Buffer k, v;              // [batch, kvHeads * headDim]
  Buffer gate, up;          // [batch, ffn]; gate is empty for an ungated ffn
  Buffer logits;            // [vocab]
};

// Consecutive tokens of one sequence, as neighbouring rows of a batch.
struct SequenceRows {
  KvCache* cache;  // with room reserved
  int64_t first;   // position of the first token
  int count;
};

struct ForwardInput {
  const Plan& plan;
  const WeightSet& weights;
  std::span<const SequenceRows> sequences;
  std::span<const int32_t> tokens;     // of all sequences, in their order; at most a batch
  Activations activations{};
  bool wantLogits = true;              // of the last row
  const Session::LogitsSink* sink = nullptr;  // logits of every row
  int sinkFirst = 0;                   // index the sink is told for tokens[0]
  int sinkFrom = 0;                    // the first of tokens whose logits it is given
  LinearInputTap* tap = nullptr;
  std::vector<OpTime>* times = nullptr;
  AttentionTap* attention = nullptr;
  std::span<const int> sinkRows{};     // ascending: those of tokens whose logits the sink is given instead, told by their place here
};

class Forward {
 public:
  Forward(Ledger& ledger, const ModelConfig& model, cpu::Context& context, int batch, int64_t probabilityBytes);
  void run(const ForwardInput& input);
  std::span<float> logits() const { return {buffers_.logits.as<float>(), static_cast<size_t>(model_.vocab)}; }
  int batch() const { return batch_; }
  void releaseProbabilities() { probabilities_ = Buffer(); }

 private:
  struct Step;
  void embed(const Step& step);
  void project(const Step& step, const Op& op);   // qkv and vOnly
  void append(const Step& step, const Op& op, const float* k, const float* v);
  void attend(const Step& step, const Op& op);    // attend and attendReuse
  void output(const Step& step, const Op& op);    // o or down, added to the residual
  void gateUp(const Step& step, const Op& op);
  int64_t logitsOf(const Step& step);             // ns spent in the op alone
  void normalize(int firstRow, int rows, const float* weight, const float* bias);  // of the residual
  void matmul(std::span<const cpu::MatmulTarget> targets, const float* x, int64_t stride, int tokens, Activations activations);
  void keepProbabilities(const Step& step, const Op& op);
  OpTime declare(const Step& step, const Op& op, int index) const;

  Ledger& ledger_;
  const ModelConfig& model_;
  cpu::Context& context_;
  int batch_;
  int64_t probabilityBytes_;
  ActivationBuffers buffers_;
  Buffer sinkLogits_;                 // [slice, vocab], made when first asked for
  Buffer probabilities_;              // [heads, queries, stride] of the leader, of each sequence in turn
  bool materialised_ = false;         // the last leader's probabilities are in the buffer
  int64_t probabilityStride_ = 0;
  std::vector<float> frequencies_;
  std::vector<int32_t> positions_;
};

}  // namespace winnow
