// SPDX-License-Identifier: GPL-3.0-or-later
// The GPU's operations, the counterpart of engine/cpu/ops.h: same layouts, same meaning, memory on the device, work queued on a stream.
// Every result is a function of its inputs alone, bit by bit: sums have one order, no floating-point atomics. What varies from step to
// step (token ids, positions, lengths, page tables) is read from device memory, so that a captured graph can be replayed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/model/config.h"
#include "engine/plan/numerics.h"

struct CUstream_st;

namespace winnow {
struct PageForm;  // engine/cache/page_form.h
}

namespace winnow::cuda {

using Stream = CUstream_st*;
using winnow::ActivationMode;

struct MatrixArgs {  // a Matrix whose memory is the device's, in the very layout of engine/weights/matrix.h
  WeightFormat format;
  int rows = 0, cols = 0;
  const void* data = nullptr;
  const uint16_t *scales = nullptr, *mins = nullptr;
  const uint8_t* steps = nullptr;  // super-blocks
  SparseRows sparse{};             // where the format is: data is null
};

// out[t] = embedding[tokens[t]] (+ positions[positionIds[t]] where there is a table of positions).
void embed(Stream stream, const MatrixArgs& embedding, const MatrixArgs* positions, const int32_t* tokens, const int32_t* positionIds,
           int count, float* out /* [count, cols] */);

void rmsNorm(Stream stream, const float* x /* [tokens, n] */, const float* weight, float eps, int tokens, int n, float* out);
void layerNorm(Stream stream, const float* x, const float* weight, const float* bias /* or null */, float eps, int tokens, int n,
               float* out);
void activate(Stream stream, Activation kind, float* gate, const float* up /* or null */, int64_t count);

// Rows [firstRow, firstRow + count) of a matrix without its zeros as they were, out [count, cols] in the element type of its format.
void expandRows(Stream stream, const MatrixArgs& sparse, int firstRow, int count, void* out);

// --- products: up to kMostTokens tokens by streaming the weights, more by tiles on the tensor cores (gemm.h) ---------------

constexpr int kMostTokens = 8;
constexpr int kMostTargets = 3;

struct Target {  // y[t][r] = W[r] . x[t] (+ bias[r]) (+ y[t][r])
  MatrixArgs w;
  float* y = nullptr;  // [tokens, yStride]
  int64_t yStride = 0;
  const float* bias = nullptr;
  bool accumulate = false;
};

// What a product multiplies: rows as they lie, their norm, or an activation of them, made on the way.
struct Source {
  enum class Kind : uint8_t { rows, rms, layer, activated };
  const float* x = nullptr;  // [tokens, stride]; activated: the gate
  int64_t stride = 0;
  Kind kind = Kind::rows;
  const float *weight = nullptr, *bias = nullptr;  // of a norm; the bias may be null
  float eps = 0;
  Activation activation{};
  const float* up = nullptr;  // activated: [tokens, stride], or null: the function alone
};

// x as the products want it. Which forms are made depends on the matrices; `scratch` holds them.
struct InputForms {
  bool plain = false;      // f32 rows, rounded as the mode says
  bool fragments = false;  // pieces.cuh: what tensor cores multiply
  bool halves = false;     // rows of f16 or bf16, for a library
  static InputForms of(std::span<const Target> targets, ActivationMode mode, int tokens);
  static size_t bytes(ActivationMode mode, int tokens, int cols);
};
struct Input {
  ActivationMode mode{};
  int tokens = 0, cols = 0;
  const float* x = nullptr;        // rounded as the mode says, [tokens, stride]
  int64_t stride = 0;
  const uint32_t* pieces = nullptr;  // see pieces.cuh
  const float* scales = nullptr;     // int8: [chunks, tokens]
  const int32_t* sums = nullptr;     // int8: [chunks, tokens], of the integers
  const float* totals = nullptr;     // [chunks, tokens], of what x was rounded to
  const uint16_t* halves = nullptr;  // [tokens, cols]
};
Input prepare(Stream stream, const Source& source, int tokens, int cols, ActivationMode mode, InputForms forms, void* scratch);

void multiply(Stream stream, std::span<const Target> targets, const Input& input);

// One row: products that make their own input, without a launch for it; the bits are those of prepare and multiply. Only where the
// shared memory of a block holds the row.
bool multipliesRow(std::span<const Target> targets, int cols, ActivationMode mode);
void multiplyRow(Stream stream, std::span<const Target> targets, const Source& source, int cols, ActivationMode mode);

// For products of 16-bit matrices: rows [firstRow, firstRow + count) of packed weights as f16 (firstRow a multiple of 16, cols of 8);
// y[t][r] += bias[r].
void decodeToHalves(Stream stream, const MatrixArgs& m, int firstRow, int count, uint16_t* out /* [count, cols] */);
void addBiasRows(Stream stream, float* y, int64_t stride, const float* bias, int tokens, int rows);

// y[t][row] += delta x[t][column], in the order of the list: what packed weights lack. At most kMostCorrections; x is rows or an
// activation.
constexpr int kMostCorrections = 8;
void correct(Stream stream, std::span<const WeightCorrection> corrections, const Source& x, int tokens, float* y, int64_t yStride);

// --- the cache and attention ---------------------------------------------------------------------------------------------

// One layer. Page p of a head holds slots [p pageTokens, (p + 1) pageTokens), f16 [pageTokens, headDim] or sealed, as its form says.
struct KvTables {
  const uint64_t* keys = nullptr;    // [kvHeads, pageStride] addresses; null for a follower
  const uint64_t* values = nullptr;  // [kvHeads, pageStride]
  int pageStride = 0, pageTokens = 0;
  const int32_t* lengths = nullptr;  // [kvHeads] slots before this step
  int32_t* positions = nullptr;      // [kvHeads, positionStride]
  int64_t positionStride = 0;
  const PageForm *keyForms = nullptr, *valueForms = nullptr;  // [kvHeads, pageStride]; null: no page is sealed
};

// Cosines and sines of a step, for all layers: [tokens, dims / 2] each.
void prepareRotations(Stream stream, const float* frequencies, int dims, const int32_t* positionIds, int tokens, float* cosines,
                      float* sines);

// After the projections: q/k norm and RoPE in place on q and k, then k, v into the slots behind `lengths`.
struct StoreArgs {
  float *q = nullptr, *k = nullptr;  // [tokens, heads, headDim], [tokens, kvHeads, headDim]; null for a follower
  const float* v = nullptr;          // [tokens, kvHeads, headDim]; null for a layer that reads another's
  int tokens = 0, heads = 0, kvHeads = 0, headDim = 0;
  const float *qNorm = nullptr, *kNorm = nullptr;  // [headDim] or null
  float eps = 0;
  const float *cosines = nullptr, *sines = nullptr;  // null: no RoPE
  int ropeDims = 0;
  const int32_t* positionIds = nullptr;  // [tokens]
  float* recent = nullptr;               // [recentRows, heads, headDim] or null: a copy of the last recentRows q, that of position p in row
  int recentRows = 0;                    // p modulo their number
  KvTables kv;
};
void rotateAndStore(Stream stream, const StoreArgs& args);
void advance(Stream stream, int32_t* lengths, int count, int tokens);  // lengths[i] += tokens

constexpr int kAttendChunk = 128;  // slots to a block; a constant, so that results depend on the length alone
bool attendSupports(int headDim);
struct AttendArgs {  // consecutive queries of one sequence, behind what the cache held before them
  const float* q = nullptr;  // [queries, heads, headDim]; null with `reuse`
  int queries = 1, heads = 0, kvHeads = 0, headDim = 0;
  KvTables kv;               // keys: the leader's, for a follower that computes again
  int added = 0;             // slots stored in this step, which kv.lengths do not count yet
  int mostTokens = 0;        // bound on the slots of any head, this step's included: the grid
  float scale = 1.0f;
  int slidingWindow = 0;
  float* out = nullptr;      // [queries, heads, headDim]
  float* probabilities = nullptr;  // [heads, queries, probabilityStride], written; zero beyond what a query sees
  const float* reuse = nullptr;    // [heads, queries, probabilityStride]
  const int32_t* reuseHeads = nullptr;  // [heads] whose rows of `reuse` each head uses; null: its own
  int64_t probabilityStride = 0;
  float* columnSums = nullptr;     // [kvHeads, columnStride] += over queries and the heads of a group
  int64_t columnStride = 0;
  bool precise = false;      // many queries: q and weights with 22 bits, else with 11 in half the time
  int aligned = 0;           // one query: pages in planes are read as far as terms so many binades apart need; 0 where no page lies so
  int32_t* unread = nullptr;    // [kvHeads, unreadStride]: bytes that this left unread of each chunk of kAttendChunk slots
  int unreadStride = 0;
  float* states = nullptr;   // many queries with taps: scratch, [heads, queries, 2]
  float* partial = nullptr;  // one query: scratch, decodeScratchFloats
  uint32_t* tickets = nullptr;  // one query: [heads], zeros before and after
};
size_t decodeScratchFloats(int heads, int headDim, int mostTokens);
// One query, which reads sealed pages as they lie; column sums need the probabilities beside them.
void attendDecode(Stream stream, const AttendArgs& args);
// Many, on pages of f16 rows (unpackPages); a follower leaves the taps to its leader.
void attendPrefill(Stream stream, const AttendArgs& args);

// Eviction: slot i of a head becomes what slot keep[i] was (ascending lists). Pages behind are the host's to free.
struct GatherArgs {
  KvTables kv;                     // lengths: slots before
  int kvHeads = 0, headDim = 0;
  const int32_t* keep = nullptr;   // [kvHeads, keepStride]
  const int32_t* kept = nullptr;   // [kvHeads] how many
  int64_t keepStride = 0;
  float* columnSums = nullptr;     // [kvHeads, columnStride] or null; zero behind the kept slots
  int64_t columnStride = 0;
};
void gatherSlots(Stream stream, const GatherArgs& args);

// --- logits --------------------------------------------------------------------------------------------------------------

void scoreLogits(Stream stream, const float* logits /* [tokens, stride] */, int64_t stride, int vocab, const int32_t* targets, int tokens,
                 TokenScore* out);
void compareLogits(Stream stream, const float* base, const float* other, int64_t stride, int vocab, const int32_t* targets, int tokens,
                   Divergence* out);

struct SampleArgs {  // engine/run/sampler.h, on the device
  const float* logits = nullptr;     // [vocab]
  int vocab = 0;
  const int32_t* history = nullptr;  // the last historyCount tokens, at most kMostHistory
  int historyCount = 0;
  float temperature = 0, topP = 1, minP = 0, repetitionPenalty = 1;
  int topK = 0;
  uint64_t seed = 1;
  const uint64_t* position = nullptr;  // in device memory: a graph is replayed at every position
  void* scratch = nullptr;             // sampleScratchBytes
  int32_t* token = nullptr;            // out
};
constexpr int kMostHistory = 1024;
size_t sampleScratchBytes(int vocab);
void sample(Stream stream, const SampleArgs& args);

// --- weights from the master ---------------------------------------------------------------------------------------------

// Rows [firstRow, firstRow + count) (firstRow a multiple of 16) of `out`, of which all memory is allocated: round to nearest, the bytes
// the CPU makes. `rows` is [count, cols] of type `storage` (f32, f16 or bf16).
void quantizeRtn(Stream stream, const void* rows, Storage storage, int firstRow, int count, const MatrixArgs& out);

// Raises the flag when a value is NaN or infinite.
void findNotFinite(Stream stream, const void* values, Storage storage, int64_t count, int32_t* flag);
// f32 to plain weights.
void narrow(Stream stream, const float* values, int64_t count, Storage storage, void* out);

// The floor(ratio rows cols) weights of smallest magnitude become zero, ties in row-major order; rows are f32, [rows, cols].
size_t pruneScratchBytes(int rows);
void pruneMagnitude(Stream stream, float* weights, int rows, int cols, double ratio, void* scratch);

}  // namespace winnow::cuda
