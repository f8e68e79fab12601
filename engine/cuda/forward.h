// SPDX-License-Identifier: GPL-3.0-or-later
// Queues a pass over a batch of rows on a stream, op by op as the plan says; the counterpart of what engine/cpu/backend.h does at once.
// What changes from token to token is read from device memory, so that a pass over one row can be captured and replayed.
#pragma once
#include <span>
#include <vector>

#include "engine/cuda/kv_cache.h"
#include "engine/plan/numerics.h"
#include "engine/run/backend.h"
#include "engine/weights/store.h"

namespace winnow::cuda {

// Marks on the stream around ops; times are known when it has passed them.
class OpMarks {
 public:
  virtual ~OpMarks() = default;
  virtual void begin(size_t op) = 0;
  virtual void end() = 0;
};

class Forward {
 public:
  Forward(Ledger& host, Ledger& device, const ModelConfig& model, const BackendOptions& options, Stream stream);

  // Takes what a pass needs beyond its rows: scratch by the lengths, probabilities. Counts how often addresses changed.
  void makeRoom(const ForwardInput& input);
  uint64_t room() const { return room_; }
  int bound() const { return bound_; }  // on the slots of any head
  bool materialised() const { return materialised_; }
  void releaseProbabilities();

  void upload(const ForwardInput& input);                     // tokens and positions
  void enqueue(const ForwardInput& input, OpMarks* marks);    // all but the logits, then the caches' lengths
  void gatherRows(std::span<const int> rows);                 // of what the logits are made of, to the front
  void logits(const ForwardInput& input, int firstRow, int rows, float* out /* [rows, vocab] */);

 private:
  int lengthBound(const ForwardInput& input) const;
  void project(const ForwardInput& input, const Op& op);
  void store(const ForwardInput& input, const Op& op);
  void attend(const ForwardInput& input, const Op& op);
  void attendRows(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t firstRow);
  void tapAttention(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t firstRow);
  void output(const ForwardInput& input, const Op& op);
  void gateUp(const ForwardInput& input, const Op& op);
  void normalize(int firstRow, int rows, const float* weight, const float* bias);
  void multiplyRows(std::span<const Target> targets, const float* x, int cols, int rows, Activations activations);
  float* probabilitiesOf(int64_t row) const { return probabilities_.as<float>() + row * model_.heads * bound_; }

  Ledger& host_;
  Ledger& device_;
  const ModelConfig& model_;
  BackendOptions options_;
  Stream stream_;
  DeviceBuffer residual_, normed_, q_, k_, v_, attended_, gate_, up_;  // f32 [batch, ...]
  DeviceBuffer forms_;                                // inputs as products read them
  DeviceBuffer partial_;                              // of attention over chunks of slots
  DeviceBuffer probabilities_;                        // [batch rows, heads, bound] of the last leader
  DeviceBuffer tapped_;                               // [heads, bound]: what only column sums want
  DeviceBuffer frequencies_, cosines_, sines_;
  DeviceBuffer tokens_, positions_;                   // int32 [batch]
  Buffer hostProbabilities_;                          // [heads, rows, bound] for a tap
  int bound_ = 0;
  bool materialised_ = false;
  uint64_t room_ = 0;
};

}  // namespace winnow::cuda
