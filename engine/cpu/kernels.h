// SPDX-License-Identifier: GPL-3.0-or-later
// The table of kernels of one instruction set and the plain structs they take. Included by kernel files, so nothing of std::.
#pragma once
#include <stdint.h>

#include "engine/cache/page_form.h"

namespace winnow::cpu {

constexpr int kPackedBits = 9;  // tables are indexed by bits: 2, 3, 4, 5, 6, 8

// y[t][r] for a range of rows of one matrix; x is in the form the kernel wants (KernelTable).
struct MatmulJob {
  const void* w = nullptr;  // plain: [rows][cols]; packed: codes
  int rows = 0, cols = 0;
  const uint16_t* scales = nullptr;  // f16 [tile][groups][16]; null with exponents
  const uint16_t* mins = nullptr;    // the same, or null
  // [tile][groups][2][16] with mins, else [tile][groups][16], or null; beside scales and mins those are one per superGroups groups
  const uint8_t* steps = nullptr;
  int groups = 0, groupChunks = 0;   // groupChunks: chunks of 32 values per group
  int superGroups = 1;
  int offset = 0;                    // subtracted from every code, or of levels8 from every level
  // Plain: [tokens, xStride]. Packed: blocks of tokens (TokenBlock), each [chunks][block tokens][values of a chunk], so that a kernel
  // reaches all its tokens from one address. The three below are [block][chunks][block tokens].
  const void* x = nullptr;
  int64_t xStride = 0;                    // elements per token
  const float* xSums = nullptr;           // sum of 32 x; needed with mins
  const float* xScales = nullptr;         // int8
  const int32_t* xCorrections = nullptr;  // int8: -offset * sum of 32 integers; kinds with halves: of 16, [block][chunks][2][block tokens]
  int terms = 0;                     // pairs: bf16 terms x is split into
  int tokens = 0;
  float* y = nullptr;
  int64_t yStride = 0;
  const float* bias = nullptr;
  bool accumulate = false;
  const float* values = nullptr;          // kTable4: [16]
  const uint8_t* levels8 = nullptr;       // kTable4: [16] values as integers, values ~ unit8 * (levels8 - offset)
  float unit8 = 1;
  int chunks() const { return (cols + 31) / 32; }
};
// Rows [begin, end); begin is a multiple of 16.
using MatmulKernel = void (*)(const MatmulJob&, int begin, int end);

// Tokens of a packed product go in blocks of `largest` (a power of two), the rest in blocks of its halves.
struct TokenBlock {
  int first, size;
};
inline TokenBlock tokenBlockOf(int token, int tokens, int largest) {
  int first = 0;
  for (int size = largest;; size /= 2) {
    const int end = first + (tokens - first) / size * size;
    if (token < end) return {first + (token - first) / size * size, size};
    first = end;
  }
}

// Rotations, exponentials and friends over one row.
enum class Squash : uint8_t { silu, geluTanh, geluErf };
struct LogitsRow {
  int32_t best = 0;
  float largest = 0;
  double sum = 0;       // of e = exp(x - largest)
  double weighted = 0;  // of e * (x - largest)
};

// Attention of the query heads of one kv head. Vectors of a head have n components.
struct HeadPages {
  const uint16_t* const* keys;
  const uint16_t* const* values;
  int pageTokens, n;
};

struct KernelTable {
  int tokenBlock;  // of the packed kernels
  // x as floats, zero to a multiple of 32 columns for packed matrices.
  MatmulKernel plain[3];             // by Storage: f32, f16, bf16
  MatmulKernel packed[kPackedBits];  // dequantized to f32
  // x as int8 with scales and sums of 32.
  MatmulKernel packedInt8[kPackedBits];
  // x as bf16; null without BF16 instructions. Pairs: per 32 values and term, 16 dwords {4d, 4d+2}, {4d+1, 4d+3} for d = 0..7.
  MatmulKernel plainBf16;
  MatmulKernel packedPairs[kPackedBits];

  // Preparation of one row of x. `mode`: 0 as it is, 1 to f16, 2 to bf16, back in f32. Chunks of 32 are `stride` elements apart, the
  // last is filled up with zeros.
  void (*roundRow)(int mode, const float* x, int cols, int64_t stride, float* out);
  void (*chunkSums)(const float* x, int cols, int64_t stride, float* sums);  // of 32 values; chunks of x lie 32 apart
  void (*quantizeRow)(const float* x, int cols, int64_t stride, int8_t* out, float* scales, int32_t* sums);
  void (*bf16Row)(const float* x, int cols, uint16_t* out);
  void (*pairsRow)(int mode, const float* x, int cols, int terms, int64_t stride, uint32_t* out);

  void (*rmsNorm)(const float* x, const float* weight, float eps, int n, float* out);
  void (*layerNorm)(const float* x, const float* weight, const float* bias, float eps, int n, float* out);
  void (*rotate)(float* head, const float* cosines, const float* sines, int half);
  void (*squash)(Squash kind, float* gate, const float* up, int64_t count);
  void (*toHalf)(const float* x, int64_t count, uint16_t* out);
  void (*exponentials)(const float* x, int64_t count, float* out);  // for the test of the bound
  void (*logits)(const float* x, int vocab, LogitsRow* out);
  // Sum of exp(p - p.largest) * ((p - q) - (p.largest - q.largest)).
  double (*divergence)(const float* p, float pLargest, const float* q, float qLargest, int vocab);

  // Attention; see attend.cpp for who calls what.
  // scores[g * stride + s - begin] = scale * q[g] . key s, for slots [begin, end).
  void (*scores)(const HeadPages&, const float* q, int heads, float scale, int begin, int end, float* scores, int64_t stride);
  // out[g][n] = sum over slots of p[g * stride + s - begin] * value s. out is written.
  void (*weighValues)(const HeadPages&, const float* p, int64_t stride, int heads, int begin, int end, float* out);
  // Scores become exp(score - max); returns their sum in *sum and max in *largest.
  void (*softmaxPart)(float* scores, int count, float* largest, float* sum);
  // out[i] = exp(x[i] - largest) * factor
  void (*probabilities)(const float* x, int count, float largest, float factor, float* out);
  // Keys of slots [begin, end) of one page, as f32 [n][width], zero beyond; values as f32 [slots][padded], zero beyond.
  void (*transposeKeys)(const uint16_t* page, int n, int count, int width, float* out);
  void (*widenValues)(const uint16_t* page, int n, int count, int padded, float* out);
  // c[m][cols] (+)= a[m][k] b[k][cols]; cols a multiple of 16. Strides in floats.
  void (*smallProduct)(const float* a, int64_t aStride, const float* b, int64_t bStride, int m, int k, int cols, float* c, int64_t cStride,
                       bool accumulate);
  // What policies compute of scores (engine/cache/query_rows.h). out[column][row] = scale * in[row][column] of 16 columns; strides in floats.
  void (*turnScaled)(const float* in /* [rows, 16] */, int rows, int columns, float scale, float* out, int64_t stride);
  // x = (x + z) * factor, z = -ln(-ln u) of u drawn by (key, position): of the 2^23 midpoints in (0, 1).
  void (*perturb)(float* x, const int32_t* positions, int count, const uint32_t key[2], float factor);
  void (*logarithms)(const float* x, int64_t count, float* out);  // for the test of the bound
  // Slots [begin, end) of a sealed page as f16 rows.
  void (*unpackPage)(const PageShape&, const PageForm&, const void* page, int begin, int end, uint16_t* out);
  // One that lies in planes, from so many bits of each channel of keys, or of each of these slots of values; null: 16.
  void (*unpackPlanes)(const PageShape&, const PageForm&, const void* page, int begin, int end, const uint8_t* bits, uint16_t* out);
  void (*scaleRow)(float* x, int n, float factor);
  void (*addScaled)(float* out, const float* x, int n, float factor);

  bool (*allFinite)(const float* x, int64_t count);
  void (*widenBf16)(const uint16_t* x, int64_t count, float* out);
  void (*toBf16)(const float* x, int64_t count, uint16_t* out);  // of finite values
  // Scores |row[c]| * factors[c]: weights under `from` become zero; the positions of those in [from, last] go to `within`, ascending, which
  // has room for cols + 16. Returns how many they are.
  int (*pruneBelow)(float* row, const float* factors, int cols, float from, float last, uint32_t* within);
  // Round to nearest of one row, codes to q and one scale (and min) per group at stride 16; see quantize/rtn.cpp.
  void (*rtnRow)(const float* w, int cols, int group, int bits, bool symmetric, uint8_t* q, uint16_t* scales, uint16_t* mins);
  // c[64][64] -= a b over k terms, in double: a[i][t] at a + i * aRow + t * aStep, b[t][j] at b + t * bStride + j.
  void (*subtractProduct)(const double* a, int64_t aRow, int64_t aStep, const double* b, int64_t bStride, int k, double* c, int64_t cStride);

  // Independent multiply-adds in registers; each returns the number of multiply-adds it did. Null where there is no such instruction.
  int64_t (*peakFloat)(int rounds, float* keep);
  int64_t (*peakInt8)(int rounds, float* keep);
  int64_t (*peakBf16)(int rounds, float* keep);

  uint64_t (*readStream)(const void* data, int64_t bytes);  // bytes a multiple of 256
};

// The table of an instruction set; null where the build has none. AVX-512 without VNNI and BF16; the two below are laid over it.
const KernelTable* scalarKernels();
const KernelTable* avx2Kernels();
const KernelTable* avx512Kernels();
struct VnniKernels {
  int64_t (*peakInt8)(int rounds, float* keep);
  MatmulKernel packedInt8[kPackedBits];
};
struct Bf16Kernels {
  int64_t (*peakBf16)(int rounds, float* keep);
  MatmulKernel plainBf16;
  MatmulKernel packedPairs[kPackedBits];
  void (*bf16Row)(const float* x, int cols, uint16_t* out);
  void (*pairsRow)(int mode, const float* x, int cols, int terms, int64_t stride, uint32_t* out);
};
const VnniKernels* vnniKernels();
const Bf16Kernels* bf16Kernels();

}  // namespace winnow::cpu
