// SPDX-License-Identifier: GPL-3.0-or-later
// Products with many tokens on the tensor cores: a block takes rows x tokens of the result and walks along the columns in chunks of 32,
// which a ring of stages in shared memory holds; all its copies are asynchronous.
// * x comes as fragments (pieces.cuh), so that a lane reads 16 bytes of a token and has two products' worth.
// * Plain weights of 16 bits are read in that same order and summed in the tensor core along the whole row.
// * Packed weights stay packed up to the registers (codes.cuh). Every 32 values are summed on their own and scaled once, total +=
//   scale * sum(code * x) + min * sum(x), which is what the products with few tokens do: nothing is rounded to 16 bits on the way.
//   Decoding to 16 bits in shared memory would save those FMAs (4 to 8 for every 2 of a lane's matrix instructions) and change the numbers.
// * One warp sums an output from the first column to the last: results do not depend on how many tokens come along.
#pragma once
#include "engine/cuda/codes.cuh"
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/pieces.cuh"

namespace winnow::cuda {

constexpr int kPlainBits = 16;

struct GemmJob {
  MatrixView w;
  Pointer<const float> bias;
  Pointer<float> y;  // [tokens, yStride]
  int64_t yStride = 0;
  int blocks = 0;
  bool accumulate = false;
};
struct GemmJobs {
  GemmJob job[kMostTargets];
  Pointer<const uint32_t> pieces;
  Pointer<const float> xScales, xTotals;  // [chunks, tokens]
  Pointer<const int32_t> xSums;
  Pointer<const float> x;                 // [tokens, xStride], for gemm_fma.cuh
  int64_t xStride = 0;
  int chunks = 0, cols = 0, tokens = 0;
};

// A warp takes tiles of 16 rows times groups of 8 tokens.
template <int rowWarps, int tokenWarps, int rowTiles, int groups>
struct GemmBlock {
  static constexpr int kTokenWarps = tokenWarps, kRowTiles = rowTiles, kGroups = groups;
  static constexpr int kThreads = 32 * rowWarps * tokenWarps;
  static constexpr int kTiles = rowWarps * rowTiles, kRows = 16 * kTiles, kTokens = 8 * groups * tokenWarps;
};
using WideGemm = GemmBlock<2, 4, 4, 4>;    // 128 rows, 128 tokens
using NarrowGemm = GemmBlock<4, 1, 1, 4>;  // 64 rows, 32 tokens

template <int bits, ActivationMode mode, Coding coding, class Shape>
struct GemmStage {  // words of shared memory
  static constexpr bool kPlain = bits == kPlainBits, kInt8 = mode == ActivationMode::int8;
  static constexpr int kPieceWords = pieceWords(mode);
  static constexpr int kTotals = Shape::kTokens * kPieceWords, kScales = kTotals + (kPlain ? 0 : Shape::kTokens);
  static constexpr int kSums = kScales + (kInt8 ? Shape::kTokens : 0), kWeights = kSums + (kInt8 ? Shape::kTokens : 0);
  // Plain: a row is 64 bytes and 32 of padding, so that 4 neighbours meet no bank twice.
  static constexpr int kRowWords = 24;
  // Packed: a tile's codes, 16 scales, 16 minimums and the steps of both.
  static constexpr int kTileScales = 16 * bits, kTileMins = kTileScales + 8, kTileSteps = kTileMins + 8;
  static constexpr int kTileWords = kPlain ? 16 * kRowWords : kTileSteps + (hasSteps(coding) ? 8 : 0);
  static constexpr int kWords = kWeights + Shape::kTiles * kTileWords;
  static constexpr int kStages = mode == ActivationMode::f32 ? 3 : 4;
  static constexpr size_t kBytes = size_t{4} * kStages * kWords;
};

struct GemmPlace {  // of a block and a warp
  int firstRow, firstToken, rowTile, group;  // rowTile, group: the warp's first, within the block
};

template <class Stage, class Shape>
__device__ inline void fillInputs(const GemmJobs& jobs, int chunk, int firstToken, Pointer<uint32_t> stage) {
  constexpr int kCopies = Stage::kPieceWords / 4;  // of a token
  const int64_t at = static_cast<int64_t>(chunk) * jobs.tokens + firstToken;
  const int given = jobs.tokens - firstToken;
  Pointer<const uint32_t> pieces = jobs.pieces + at * Stage::kPieceWords;
  for (int p = static_cast<int>(threadIdx.x); p < Shape::kTokens * kCopies; p += Shape::kThreads)
    copyAsync<16>(stage + 4 * p, pieces + 4 * p, p < given * kCopies);
  if constexpr (!Stage::kPlain)
    for (int p = static_cast<int>(threadIdx.x); p < Shape::kTokens; p += Shape::kThreads) {
      copyAsync<4>(stage + Stage::kTotals + p, jobs.xTotals + at + p, p < given);
      if constexpr (Stage::kInt8) {
        copyAsync<4>(stage + Stage::kScales + p, jobs.xScales + at + p, p < given);
        copyAsync<4>(stage + Stage::kSums + p, jobs.xSums + at + p, p < given);
      }
    }
}

template <class Stage, class Shape>
__device__ inline void fillPlain(const MatrixView& w, int chunk, int firstRow, Pointer<uint32_t> stage) {
  for (int p = static_cast<int>(threadIdx.x); p < Shape::kRows * 4; p += Shape::kThreads) {
    const int row = firstRow + p / 4, k = chunk * 32 + p % 4 * 8;
    copyAsync<16>(stage + p / 4 * Stage::kRowWords + p % 4 * 4, w.half + static_cast<int64_t>(row) * w.cols + k, row < w.rows && k < w.cols);
  }
}

template <int bits, Coding coding, class Stage, class Shape>
__device__ inline void fillPacked(const MatrixView& w, int chunk, int firstTile, Pointer<uint32_t> stage) {
  const int given = (w.rows + 15) / 16 - firstTile;
  for (int p = static_cast<int>(threadIdx.x); p < Shape::kTiles * 4 * bits; p += Shape::kThreads) {
    const int tile = p / (4 * bits), part = p % (4 * bits) * 4;
    copyAsync<16>(stage + tile * Stage::kTileWords + part,
                  w.codes + (static_cast<int64_t>(firstTile + tile) * w.chunks + chunk) * 16 * bits + part, tile < given);
  }
  if constexpr (coding == Coding::e2m1) {  // exponents: one copy, and no scales
    for (int tile = static_cast<int>(threadIdx.x); tile < Shape::kTiles; tile += Shape::kThreads)
      copyAsync<16>(stage + tile * Stage::kTileWords + Stage::kTileScales, w.steps + stepAt(w, firstTile + tile, chunk), tile < given);
  } else {
    for (int p = static_cast<int>(threadIdx.x); p < Shape::kTiles * 2; p += Shape::kThreads) {  // two copies hold 16 scales
      const int tile = p / 2, part = p % 2;
      const int64_t at = scaleAt(w, firstTile + tile, chunk) + part * 8;
      Pointer<uint32_t> to = stage + tile * Stage::kTileWords + part * 4;
      copyAsync<16>(to + Stage::kTileScales, w.scales + at, tile < given);
      if (hasMins(coding) && w.mins) copyAsync<16>(to + Stage::kTileMins, w.mins + at, tile < given);
      if constexpr (hasSteps(coding)) copyAsync<16>(to + Stage::kTileSteps, w.steps + stepAt(w, firstTile + tile, chunk) + part * 8, tile < given);
    }
  }
}

template <class Shape>
using GemmTotals = float[Shape::kRowTiles][Shape::kGroups][4];

template <ActivationMode mode, class Stage, class Shape>
__device__ inline void multiplyPlainStage(Pointer<uint32_t> stage, const GemmPlace& at, int g, int t, GemmTotals<Shape>& total) {
  uint4 b[Shape::kGroups];
#pragma unroll
  for (int j = 0; j < Shape::kGroups; ++j) b[j] = load<uint4>(stage + ((at.group + j) * 8 + g) * Stage::kPieceWords + t * 4);
#pragma unroll
  for (int i = 0; i < Shape::kRowTiles; ++i) {
    Pointer<uint32_t> row = stage + Stage::kWeights + ((at.rowTile + i) * 16 + g) * Stage::kRowWords + t * 2;
    const uint2 a = load<uint2>(row), c = load<uint2>(row + 8), below = load<uint2>(row + 8 * Stage::kRowWords),
                e = load<uint2>(row + 8 * Stage::kRowWords + 8);
    const uint32_t first[4] = {a.x, below.x, a.y, below.y}, second[4] = {c.x, e.x, c.y, e.y};
#pragma unroll
    for (int j = 0; j < Shape::kGroups; ++j) {
      const uint32_t low[2] = {b[j].x, b[j].y}, high[2] = {b[j].z, b[j].w};
      mmaFloats<mode>(total[i][j], first, low);
      mmaFloats<mode>(total[i][j], second, high);
    }
  }
}

// The sums of a chunk or of its parts: d[0], d[1] of row g, tokens 2t and 2t + 1 of group j, d[2], d[3] of row g + 8.
template <Coding coding>
using PartSums = float[codeParts(coding)][4];

template <ActivationMode mode, Coding coding, class Stage>
__device__ inline void sumFloats(Pointer<uint32_t> stage, const CodeFragments<mode, coding>& a, int group, int g, int t, PartSums<coding>& d) {
#pragma unroll
  for (int piece = (mode == ActivationMode::f32 ? 3 : 1) - 1; piece >= 0; --piece) {  // the smallest first
    const uint4 v = load<uint4>(stage + (group * 8 + g) * Stage::kPieceWords + piece * 16 + t * 4);
    const uint32_t low[2] = {v.x, v.y}, high[2] = {v.z, v.w};
#pragma unroll
    for (int own = codePieces(mode, coding) - 1; own >= 0; --own) {
      if (!counts(piece, own)) continue;
      mmaFloats<mode>(d[0], a.first[own], low);
      mmaFloats<mode>(d[codeParts(coding) - 1], a.second[own], high);
    }
  }
}
// The sum starts as the bits of 3 * 2^22, less the offset's share where codes have no sign: what it ends as is a float, 3 * 2^22 too large.
template <Coding coding, class Stage>
__device__ inline void sumBytes(Pointer<uint32_t> stage, const CodeBytes& codes, int offset, int group, int g, int t, PartSums<coding>& d) {
  constexpr int kBegin = 0x4b400000;
  const uint2 v = load<uint2>(stage + (group * 8 + g) * Stage::kPieceWords + t * 2);
  const uint2 scales = load<uint2>(stage + Stage::kScales + group * 8 + 2 * t);
  const float scale[2] = {__uint_as_float(scales.x), __uint_as_float(scales.y)};
  const uint32_t b[2] = {v.x, v.y};
  int sum[codeParts(coding)][4];
  if constexpr (signedBytes(coding)) {
#pragma unroll
    for (int part = 0; part < codeParts(coding); ++part)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[part][i] = kBegin;
    sumSigned<coding>(sum, codes, b);
  } else {
    const uint2 sums = load<uint2>(stage + Stage::kSums + group * 8 + 2 * t);
    const int begin[2] = {kBegin - offset * static_cast<int>(sums.x), kBegin - offset * static_cast<int>(sums.y)};
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[0][i] = begin[i % 2];
    mmaBytes(sum[0], codes.a, b);
  }
#pragma unroll
  for (int part = 0; part < codeParts(coding); ++part)
#pragma unroll
    for (int i = 0; i < 4; ++i) d[part][i] = (__int_as_float(sum[part][i]) - 12582912.0f) * scale[i % 2];
}

template <int bits, ActivationMode mode, Coding coding, class Stage, class Shape>
__device__ inline void multiplyPackedStage(Pointer<uint32_t> stage, const MatrixView& w, const GemmPlace& at, int g, int t, uint32_t level,
                                           GemmTotals<Shape>& total) {
#pragma unroll
  for (int i = 0; i < Shape::kRowTiles; ++i) {
    Pointer<uint32_t> tile = stage + Stage::kWeights + (at.rowTile + i) * Stage::kTileWords;
    const Codes codes = loadCodes<bits>(tile, g, t);
    CodeFragments<mode, coding> floats;
    CodeBytes bytes = {{codes.low[0], codes.low[1], codes.high[0], codes.high[1]}};
    if constexpr (mode != ActivationMode::int8)
      floats = floatsOf<mode, coding>(codes, w.offset, level);
    else if constexpr (signedBytes(coding))
      bytes = bytesOf<coding>(codes, w.offset, level);
    float scale[codeParts(coding)][2], least[2] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int part = 0; part < codeParts(coding); ++part)
        scale[part][r] = scaleOfRow<coding>(tile + Stage::kTileScales, tile + Stage::kTileSteps + 4 * part, g + 8 * r);
      if (hasMins(coding) && w.mins) least[r] = scaleOfRow<coding>(tile + Stage::kTileMins, tile + Stage::kTileSteps + 4, g + 8 * r);
    }
#pragma unroll
    for (int j = 0; j < Shape::kGroups; ++j) {
      PartSums<coding> d = {};
      if constexpr (mode == ActivationMode::int8)
        sumBytes<coding, Stage>(stage, bytes, w.offset, at.group + j, g, t, d);
      else
        sumFloats<mode, coding, Stage>(stage, floats, at.group + j, g, t, d);
#pragma unroll
      for (int part = 0; part < codeParts(coding); ++part)
#pragma unroll
        for (int e = 0; e < 4; ++e) total[i][j][e] = fmaf(d[part][e], scale[part][e / 2], total[i][j][e]);
      if (!hasMins(coding) || !w.mins) continue;
      const uint2 x = load<uint2>(stage + Stage::kTotals + (at.group + j) * 8 + 2 * t);
#pragma unroll
      for (int e = 0; e < 4; ++e) total[i][j][e] = fmaf(__uint_as_float(e % 2 ? x.y : x.x), least[e / 2], total[i][j][e]);
    }
  }
}

template <bool levels, class Shape>  // levels: of bytes that stand for those of a table
__device__ inline void storeTotals(const GemmJob& job, int tokens, const GemmPlace& at, int g, int t, const GemmTotals<Shape>& total) {
#pragma unroll
  for (int i = 0; i < Shape::kRowTiles; ++i)
#pragma unroll
    for (int j = 0; j < Shape::kGroups; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = at.firstRow + (at.rowTile + i) * 16 + g + e / 2 * 8, token = at.firstToken + (at.group + j) * 8 + 2 * t + e % 2;
        if (row >= job.w.rows || token >= tokens) continue;
        float y = levels ? total[i][j][e] * job.w.levelUnit : total[i][j][e];
        if (job.bias) y += job.bias[row];
        const int64_t to = token * job.yStride + row;
        if (job.accumulate) y += job.y[to];
        job.y[to] = y;
      }
}

// blockIdx.x: tokens; blockIdx.y: rows of the jobs one after another. Neighbouring blocks share their weights.
template <int bits, ActivationMode mode, Coding coding, class Shape>
__global__ void __launch_bounds__(Shape::kThreads) gemmTiles(const __grid_constant__ GemmJobs jobs) {
  using Stage = GemmStage<bits, mode, coding, Shape>;
  Pointer<uint32_t> ring = dynamicShared<uint32_t>();
  int block = static_cast<int>(blockIdx.y), which = 0;
  while (block >= jobs.job[which].blocks) block -= jobs.job[which++].blocks;
  const GemmJob& job = jobs.job[which];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const GemmPlace at{block * Shape::kRows, static_cast<int>(blockIdx.x) * Shape::kTokens, warp / Shape::kTokenWarps * Shape::kRowTiles,
                     warp % Shape::kTokenWarps * Shape::kGroups};
  const auto fill = [&](int chunk) {
    if (chunk < jobs.chunks) {
      Pointer<uint32_t> stage = ring + chunk % Stage::kStages * Stage::kWords;
      fillInputs<Stage, Shape>(jobs, chunk, at.firstToken, stage);
      if constexpr (Stage::kPlain)
        fillPlain<Stage, Shape>(job.w, chunk, at.firstRow, stage + Stage::kWeights);
      else
        fillPacked<bits, coding, Stage, Shape>(job.w, chunk, at.firstRow / 16, stage + Stage::kWeights);
    }
    commitCopies();
  };
  const uint32_t level = levelOfLane<mode, coding>(job.w);
  GemmTotals<Shape> total = {};
#pragma unroll
  for (int chunk = 0; chunk < Stage::kStages - 1; ++chunk) fill(chunk);
  for (int chunk = 0; chunk < jobs.chunks; ++chunk) {
    waitCopies<Stage::kStages - 2>();
    __syncthreads();  // everyone's copies have landed, and all are done with the stage that is filled next
    fill(chunk + Stage::kStages - 1);
    Pointer<uint32_t> stage = ring + chunk % Stage::kStages * Stage::kWords;
    if constexpr (Stage::kPlain)
      multiplyPlainStage<mode, Stage, Shape>(stage, at, g, t, total);
    else
      multiplyPackedStage<bits, mode, coding, Stage, Shape>(stage, job.w, at, g, t, level, total);
  }
  storeTotals<mode == ActivationMode::int8 && looksUp(mode, coding), Shape>(job, jobs.tokens, at, g, t, total);
}

}  // namespace winnow::cuda
