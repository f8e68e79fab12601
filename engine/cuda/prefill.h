// SPDX-License-Identifier: GPL-3.0-or-later
// Executes a plan on the device for a batch of rows, as engine/run/forward.h does on the CPU: consecutive tokens of one sequence, or tokens
// of several that go through every matrix together, each with its own cache. One token at a time is the Decoder's (decode.h), which
// replays a graph; here work is queued launch by launch.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "engine/cuda/kv_cache.h"
#include "engine/cuda/products.h"
#include "engine/cuda/weights.h"
#include "engine/plan/plan.h"
#include "engine/run/forward.h"

namespace winnow::cuda {

// Consecutive tokens of one sequence, as neighbouring rows of a batch.
struct DeviceRows {
  DeviceKvCache* cache;
  int64_t first;  // position of the first token
  int count;
};

// Logits of `count` rows from `first` on, in device memory, good until the call returns and what it queued on the stream is done.
using DeviceLogitsSink = std::function<void(int first, int count, const float* logits /* [count, vocab] */)>;

struct PrefillInput {
  const Plan& plan;
  const DeviceWeights& weights;
  std::span<const DeviceRows> sequences;
  std::span<const int32_t> tokens;  // of all sequences, in their order; at most a batch
  Activations activations{};
  bool wantLogits = true;           // of the last row
  const DeviceLogitsSink* sink = nullptr;  // logits of every row
  int sinkFirst = 0;                // index the sink is told for tokens[0]
  int sinkFrom = 0;                 // the first of tokens whose logits it is given
  LinearInputTap* tap = nullptr;    // both taps are handed copies on the host, and the stream waits for them
  AttentionTap* attention = nullptr;
};

class Prefill {
 public:
  // Probabilities that followers or taps want are kept up to probabilityBytes; followers beyond that make them again.
  Prefill(Ledger& ledger, const ModelConfig& model, int batch, int64_t probabilityBytes, Stream stream);

  // Reserves room in the caches and, when all is queued, advances them. Throws std::bad_alloc with nothing seen to change.
  void run(const PrefillInput& input);
  std::vector<float> logits() const;  // of the last row, copied to the host
  const float* deviceLogits() const { return logits_.as<float>(); }
  int batch() const { return batch_; }
  Products& products() { return products_; }
  void releaseProbabilities() { probabilities_ = DeviceBuffer(); }

 private:
  struct Step;
  void embed(const Step& step);
  void project(const Step& step, const Op& op);  // qkv and vOnly
  void rotateAndStore(const Step& step, const Op& op);
  void attend(const Step& step, const Op& op);   // attend and attendReuse
  void attendOne(AttendArgs args);
  void output(const Step& step, const Op& op);   // o or down, added to the residual
  void gateUp(const Step& step, const Op& op);
  void head(const Step& step);
  Source normed(const Step& step, int firstRow, const float* weight, const float* bias) const;  // the residual's norm, made where it is read
  void keepProbabilities(const Step& step, const Op& op);
  void hand(const Step& step, const Op& op, LinearInput input, const Source& source, int cols);
  void hand(const Step& step, const Op& op, const DeviceRows& sequence, int64_t row, int slots);

  Ledger& ledger_;
  const ModelConfig& model_;
  int batch_;
  int64_t probabilityBytes_;
  Stream stream_;
  DeviceBuffer residual_, q_, k_, v_, attended_, gate_, up_, logits_;  // f32 rows
  DeviceBuffer sinkLogits_;                       // [slice, vocab], made when first asked for
  Products products_;
  DeviceBuffer states_;                           // of taps, [heads, queries, 2]
  DeviceBuffer partial_;                          // of sequences with one row
  DeviceBuffer probabilities_;                    // [heads, queries, stride] of the leader, of each sequence in turn
  bool materialised_ = false;                     // the last leader's probabilities are in the buffer
  int64_t probabilityStride_ = 0;
  DeviceBuffer frequencies_, cosines_, sines_;
  DeviceBuffer tokens_, positions_;               // int32
};

}  // namespace winnow::cuda
