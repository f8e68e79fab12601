// SPDX-License-Identifier: GPL-3.0-or-later
// Queues a pass over a batch of rows on a stream, op by op as the plan says; the counterpart of what engine/cpu/backend.h does at once.
// What changes from token to token is read from device memory, so that a pass over one row can be captured and replayed.
#pragma once
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "engine/cuda/critical.h"
#include "engine/cuda/kv_cache.h"
#include "engine/cuda/products.h"
#include "engine/cuda/selected.h"
#include "engine/cuda/sparse.h"
#include "engine/run/backend.h"
#include "engine/sparsify/step.h"
#include "engine/weights/calibration.h"
#include "engine/weights/store.h"

namespace winnow {
class PromptNeurons;
}

namespace winnow::cuda {

// A product of a row that reads some channels of its matrices. How many of `of` it reads is known when the row has passed.
struct Skip {
  size_t op;
  int row, layer;
  size_t place;  // of SparseUse
  int of;
  size_t count;
  struct {
    const Matrix* w;
    const ChannelMajor* channels;
  } matrices[kMostTargets];
};

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

  // What each row of the next pass leaves out (SparseBackend), before makeRoom(); empty: nothing.
  void leaveOut(std::vector<const SparseStep*> rows) { sparse_ = std::move(rows); }
  std::span<const SparseStep* const> sparse() const { return sparse_; }
  std::vector<Skip> takeSkips() { return std::exchange(skips_, {}); }  // of what was queued since the last call
  std::vector<int32_t> keptCounts(size_t rows) const;                // [rows, layers, places]; and waits
  void takeSquares(const ForwardInput& input, PromptNeurons& prompt) const;  // of a pass that was tapped for it; and waits
  std::vector<int64_t> criticalSlots() const;                         // [layers] that were attended to before the segment, over the kv heads; -1: all

  void upload(const ForwardInput& input);                     // tokens and positions
  void enqueue(const ForwardInput& input, OpMarks* marks);    // all but the logits, then the caches' lengths
  void gatherRows(const ForwardInput& input);                 // sinkRows of what the logits are made of, to the front
  void observe(DeviceKvCache& cache, int queries);            // Backend::observe, of as many as the cache has
  void logits(const ForwardInput& input, int firstRow, int rows, float* out /* [rows, vocab] */);

 private:
  void measure(const ForwardInput& input);
  void need(DeviceBuffer& buffer, MemoryTag tag, size_t bytes);  // at least so many
  void needZeros(DeviceBuffer& buffer, MemoryTag tag, size_t bytes);  // zeros when they are new
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
  // forward_critical.cu: blocks of the cache that a segment of a prompt attends to (CritiPrefill)
  bool mayChooseBlocks(const ForwardInput& input) const;
  void makeCriticalRoom(const ForwardInput& input);
  CriticalList chooseBlocks(const ForwardInput& input, const Op& op, const float* q);  // of a layer that attends itself; empty: all are attended to

  // forward_sparse.cu: rows of decoded tokens that leave something out
  struct SparseLinear {
    Target target;  // of row 0
    FactorArgs factors;
    const Matrix* w = nullptr;
    const ChannelMajor* channels = nullptr;  // null where there are none, or nothing is skipped
  };
  struct RowLinears {  // of one row
    RowLinears(std::span<const SparseLinear> all, int row);
    std::span<const SparseLinear> linears() const { return {linears_.data(), count_}; }
    std::span<const Target> targets() const { return {targets_.data(), count_}; }
    std::span<const FactorArgs> factors() const { return {factors_.data(), count_}; }

   private:
    size_t count_;
    std::array<SparseLinear, kMostTargets> linears_;
    std::array<Target, kMostTargets> targets_;
    std::array<FactorArgs, kMostTargets> factors_;
  };
  bool anySparse() const;
  const SparseLayer* sparseLayer(int row, int layer) const;
  static const ChannelMajorLayer& channelsOf(const ForwardInput& input, const Op& op);
  void makeSparseRoom(const ForwardInput& input);
  void uploadNeurons();
  int32_t* countAt(int row, int layer, size_t place) const;
  uint32_t* neuronMasks(int row) const;
  const uint32_t* neuronsOf(int row, int layer) const;
  KeptRow keep(const Source& x, int cols, float threshold, ActivationMode mode, int32_t* count, const uint32_t* within = nullptr, uint32_t* masks = nullptr);
  void skips(const ForwardInput& input, const Op& op, int row, size_t place, std::span<const SparseLinear> linears, int of);
  template <class Body>
  void eachMode(const ForwardInput& input, std::span<const SparseLinear> linears, Body body);
  void linear(const ForwardInput& input, const Op& op, LinearInput which, std::span<const SparseLinear> linears, const Source& x, int cols);
  void linearRow(const ForwardInput& input, const Op& op, int row, LinearInput which, std::span<const SparseLinear> linears, Source x, int cols);
  void gateUpRow(const ForwardInput& input, const Op& op, int row, std::span<const SparseLinear> linears, const Source& x);
  void tapSquares(const Op& op, const PromptNeurons& prompt, const Source& source, int tokens, int cols);
  void tapGate(const ForwardInput& input, const Op& op) const;

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
  void shortcut(const ForwardInput& input, const Op& op);
  int width(const ForwardInput& input) const { return input.weights.streamWidth(model_); }  // of the residual stream
  Source normed(const ForwardInput& input, int firstRow, const float* weight, const float* bias) const;  // the residual's norm, made where it is read

  Ledger& host_;
  Ledger& device_;
  const ModelConfig& model_;
  BackendOptions options_;
  Stream stream_;
  DeviceBuffer aside_;                                // as large as residual_, where shortcuts make the next one
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
  struct {
    DeviceBuffer centers, fresh, worth, blocks, taken, counts, slots;
    int before = -1;         // slots in front of the segment when the layer below chose; -1: it did not
    CriticalList list;       // of the last layer that attended itself
    std::vector<bool> chose;  // [layers] in this pass
  } critical_;                                        // engine/cuda/critical.h
  std::vector<const SparseStep*> sparse_;             // [rows]; empty: all are computed whole
  std::vector<Skip> skips_;
  struct {
    DeviceBuffer masked, rounded, values, list, masks;  // of the row and matrix at hand (KeptRow)
    DeviceBuffer neurons;                               // [rows, chunks of the feed-forward] bits of those whose gate is open
    DeviceBuffer counts;                                // int32 [rows, layers, places]
    DeviceBuffer partial, tickets;
  } kept_;
  struct ChosenNeurons {
    uint64_t serial = 0;               // of the step whose neurons are there
    DeviceBuffer lists, masks, counts;  // int32 [layers, ffn], bits [layers, chunks], int32 [layers]
  };
  std::vector<ChosenNeurons> chosenNeurons_;          // [rows]
  struct {
    DeviceBuffer sums, weights;                       // [layers, ffn] of the pass at hand; [batch]
  } squares_;
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
