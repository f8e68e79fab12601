// SPDX-License-Identifier: GPL-3.0-or-later
// The CPU's operations: threaded over a pool, each with scalar, AVX2 and AVX-512 kernels (VNNI and BF16 where present)
// chosen once. Results are bit-equal for any number of threads; they differ between instruction sets within the bounds
// tests/engine/ops states. All activations are f32 in memory.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/cache/page_form.h"
#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/model/config.h"
#include "engine/plan/numerics.h"
#include "engine/weights/matrix.h"

namespace winnow::cpu {

enum class Isa : uint8_t { scalar, avx2, avx512 };  // avx512: F, BW, DQ, VL; VNNI and BF16 are used inside it when CPUID has them
Isa bestIsa();                     // from CPUID (and XCR0)
std::vector<Isa> availableIsas();  // scalar first
std::string isaName(Isa isa);      // "scalar", "avx2", "avx512+vnni+bf16"

using winnow::ActivationMode;

struct KernelTable;

// The pool, the kernels and scratch, posted to the ledger when there is one; one per session, not thread-safe. On a planning ledger
// matmul, rope and attend take the scratch they need and compute nothing.
class Context {
 public:
  Context(ThreadPool& pool, Isa isa, Ledger* ledger = nullptr);
  ~Context();
  ThreadPool& pool() const { return pool_; }
  Isa isa() const { return isa_; }
  bool planning() const;
  void reserveLike(const Context& planned);  // as much scratch as the other has taken

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  ThreadPool& pool_;
  Isa isa_;
  std::unique_ptr<Impl> impl_;
};

// y[t][r] = W[r] . x[t] (+ bias[r]) (+ y[t][r] when accumulate). Several matrices with the same input (q,k,v or gate,up) go
// in one call: one fork-join, x prepared once.
struct MatmulTarget {
  const Matrix* w = nullptr;    // [rows, cols]
  float* y = nullptr;           // [tokens, yStride]
  int64_t yStride = 0;          // floats
  const float* bias = nullptr;  // [rows] or null
  bool accumulate = false;
};
void matmul(Context& context, std::span<const MatmulTarget> targets, const float* x /* [tokens, xStride] */, int64_t xStride, int tokens,
            ActivationMode mode);

void rmsNorm(Context& context, const float* x /* [tokens, n] */, const float* weight /* [n] */, float eps, int tokens, int n, float* out);
void layerNorm(Context& context, const float* x, const float* weight, const float* bias, float eps, int tokens, int n, float* out);
// RMSNorm of each head of each token in place (Qwen3). x [tokens, heads, headDim] with a token stride in floats.
void headNorm(Context& context, float* x, int64_t stride, const float* weight /* [headDim] */, float eps, int tokens, int heads,
              int headDim);

// Angle of pair c at position p is p * frequency[c] (scaling folded in by ropeFrequencies); half-split pairs (c, c + dims/2).
std::vector<float> ropeFrequencies(const RopeConfig& rope);  // [dims/2]
void rope(Context& context, float* x /* [tokens, heads, headDim] */, int64_t stride, const float* frequencies, int dims,
          const int32_t* positions /* [tokens] */, int tokens, int heads, int headDim);

// gate[t][i] = act(gate[t][i]) * up[t][i]; up null: act alone.
void activate(Context& context, Activation kind, float* gate, const float* up, int64_t count);

// Attention over paged keys and values. Page p of a head holds slots [p*pageTokens, (p+1)*pageTokens), f16 [pageTokens, headDim] or sealed.
// The last `queries` slots of every head are the queries' own tokens, in order: query i sees slots [0, tokens - queries + i].
struct KvHead {
  const uint16_t* const* keys = nullptr;    // pages; null with `reuse`
  const uint16_t* const* values = nullptr;
  int tokens = 0;                           // slots, this step's included
  const int32_t* positions = nullptr;       // [tokens] original positions, ascending; needed for slidingWindow and turns only
  // What form each page has; null: all are f16.
  const PageForm* keyForms = nullptr;
  const PageForm* valueForms = nullptr;
};
// To attention every slot lies right before the next one its head holds: a key is turned by the tokens that are missing behind it (positions
// within the cache, as StreamingLLM counts them; R(s) R(p) k = R(p + s) k). The queries' own slots are neighbours. Null frequencies: positions are what they are.
struct KeyTurns {
  const float* frequencies = nullptr;  // [half] radians per position of the RoPE pairs (c, c + half)
  int half = 0;
  bool hadamard = false;  // keys and queries are stored rotated (kv.rotate)
};
class CriticalBlocks;
struct AttendArgs {
  int heads = 0, kvHeads = 0, headDim = 0, queries = 0, pageTokens = 0;
  const float* q = nullptr;       // [queries, heads, headDim] after RoPE; null with `reuse`
  int64_t qStride = 0;            // floats between queries
  const KvHead* kv = nullptr;     // [kvHeads]
  float scale = 1.0f;             // 1/sqrt(headDim)
  int slidingWindow = 0;          // > 0: only slots with position > own position - window
  KeyTurns turns{};
  // One query: > 0 reads pages in planes as far as terms so many binades apart need (engine/cpu/aligned.h); else whole. unread, when given,
  // is added the bytes that were not read.
  int aligned = 0;
  int64_t* unread = nullptr;
  float* out = nullptr;           // [queries, heads, headDim], stride outStride; null: only the taps are wanted
  int64_t outStride = 0;
  // Taps; null costs nothing.
  float* columnSums = nullptr;    // [kvHeads, columnStride] += sum over queries and the group's heads of p (H2O)
  int64_t columnStride = 0;
  float* probabilities = nullptr; // [heads, queries, probabilityStride]: written; zero beyond what a query sees
  // EchoAtt follower: use these probabilities instead of q . k
  const float* reuse = nullptr;   // [heads, queries, probabilityStride]
  // Several queries: the slots before them that are attended to; null: all. They are a segment, whose own slots always are.
  const CriticalBlocks* critical = nullptr;
  const int* reuseHeads = nullptr;  // [heads] whose rows of `reuse` each head uses; null: its own
  int64_t probabilityStride = 0;
};
void attend(Context& context, const AttendArgs& args);

// f32 rows to f16 cache slots: dst = slots of one head.
void storeHalf(const float* src, int64_t count, uint16_t* dst);

// Row t against target[t]: max and log-sum-exp in f32 blocks, summed in double.
void scoreLogits(Context& context, const float* logits /* [tokens, vocab] */, int64_t stride, int vocab, const int32_t* targets, int tokens,
                 TokenScore* out);
void compareLogits(Context& context, const float* base, const float* other, int64_t stride, int vocab, const int32_t* targets, int tokens,
                   Divergence* out);

// In-run roofline: GB/s of a streaming read with the same threads, and GFLOP/s (GOP/s for int8) of the arithmetic instructions the matmul
// kernel of that storage and mode uses, in registers.
double measureReadBandwidth(Context& context, size_t bytes);        // GB/s
double measurePeak(Context& context, Storage storage, ActivationMode mode, int bits);  // GFLOP/s

}  // namespace winnow::cpu
