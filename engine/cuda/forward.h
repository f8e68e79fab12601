// SPDX-License-Identifier: GPL-3.0-or-later
// Queues a pass over a batch of rows on a stream, op by op as the plan says; the counterpart of what engine/cpu/backend.h does at once.
// What changes from token to token is read from device memory, so that a pass over one row can be captured and replayed.
#pragma once
#include <span>
#include <vector>

#include "engine/cuda/kv_cache.h"
#include "engine/cuda/products.h"
#include "engine/cuda/selected.h"
#include "engine/run/backend.h"
#include "engine/weights/calibration.h"
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
  int slots() const { return slots_; }  // bound on those of any head
  bool materialised() const { return materialised_; }
  void releaseProbabilities();
  // Memory for twins of what a long prompt decodes; `room`: bytes that they may still take.
  void makeTwins(const ForwardInput& input, const std::function<int64_t()>& room);
  Products& products() { return products_; }
  const Products& products() const { return products_; }

  void upload(const ForwardInput& input);                     // tokens and positions
  void enqueue(const ForwardInput& input, OpMarks* marks);    // all but the logits, then the caches' lengths
  void gatherRows(std::span<const int> rows);                 // of what the logits are made of, to the front
  void observe(DeviceKvCache& cache, int queries);            // Backend::observe, of as many as the cache has
  void logits(const ForwardInput& input, int firstRow, int rows, float* out /* [rows, vocab] */);

 private:
  void measure(const ForwardInput& input);
  void need(DeviceBuffer& buffer, MemoryTag tag, size_t bytes);  // at least so many
  AttendArgs attendArgs() const;  // what is the model's

  // forward_read.cu: keys and values as attention reads them
  static bool unpacks(const DeviceKvCache& cache, int queries) { return queries > 1 && cache.mayBeSealed(); }  // one query reads them sealed
  bool turns(const DeviceKvCache& cache) const { return cache.countsWithin() && frequencies_.bytes() > 0; }
  static bool chooses(const DeviceKvCache& cache, int queries, int slots);  // some query of a cache of so many slots or fewer reads less than all
  size_t unpackedBytes(const DeviceKvCache& cache, int slots, bool tables) const;
  void makeReadable(const DeviceKvCache& cache, int queries, int slots);  // the room that it takes
  KvTables readable(const DeviceKvCache& cache, int layer, int keyLayer, int queries, int added, int slots);
  Selection selection(const DeviceKvCache& cache) const;
  void choose(const DeviceKvCache& cache, int layer, const float* q);
  void readChosen(const DeviceKvCache& cache, int layer, int keyLayer, AttendArgs& args);
  void project(const ForwardInput& input, const Op& op);
  void store(const ForwardInput& input, const Op& op);
  void attend(const ForwardInput& input, const Op& op);
  void attendSequence(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t row);
  void attendAligned(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t row);
  int alignedQueries(const ForwardInput& input) const;
  void uploadHeads(const Plan& plan);
  void uploadPairs(const WeightSet& weights);
  const int32_t* headsOf(const Plan& plan, const Op& op) const;
  void tapAttention(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t row);
  void tapStream(const ForwardInput& input, int point);
  void tapInput(const ForwardInput& input, const Op& op, LinearInput which, const Source& source, int cols);
  void output(const ForwardInput& input, const Op& op);
  void gateUp(const ForwardInput& input, const Op& op);
  Source normed(int firstRow, const float* weight, const float* bias) const;  // the residual's norm, made where it is read

  Ledger& host_;
  Ledger& device_;
  const ModelConfig& model_;
  BackendOptions options_;
  Stream stream_;
  DeviceBuffer residual_, q_, k_, v_, attended_, gate_, up_;  // f32 [batch, ...]
  Products products_;
  DeviceBuffer states_;                               // of attention with taps, [batch, heads, 2]
  DeviceBuffer partial_;                              // of attention of one row over chunks of slots
  DeviceBuffer tickets_;                              // of the blocks that it takes, [heads], zeros between launches
  DeviceBuffer probabilities_;                        // [heads, rows, stride] of the last leader, of each sequence in turn
  DeviceBuffer unpacked_, unpackedTables_;            // f16 pages of the layer at hand, for many queries of a cache whose own may be sealed
  struct {
    DeviceBuffer rows, table, forms, within;
  } turned_;                                          // keys of the layer at hand at positions within the cache (engine/cuda/turned.h)
  struct {
    DeviceBuffer scores, blocks, slots, tables, positions, rows;
  } chosen_;                                          // what a query chose (engine/cuda/selected.h), and the layer at hand as pages of that
  DeviceBuffer tapped_;                               // [heads, stride]: what only column sums of one row want
  struct {
    DeviceBuffer q, out, states, partial, probabilities;
  } observed_;                                        // of observe()
  DeviceBuffer frequencies_, cosines_, sines_;
  DeviceBuffer tokens_, positions_;                   // int32 [batch]
  DeviceBuffer heads_;                                // int32 [layers, heads]: whose attention the heads of aligned followers use
  std::vector<int32_t> hostHeads_;                    // what is there
  DeviceBuffer pairs_;                                // int32 [layers, kvHeads, headDim / 2]: RoPE pairs of narrowed heads
  std::vector<int32_t> hostPairs_;                    // what is there
  Buffer hostProbabilities_;                          // for a tap
  int slots_ = 0;
  int64_t stride_ = 0;                                // of probabilities
  bool materialised_ = false;
  uint64_t room_ = 0;
};

}  // namespace winnow::cuda
