// SPDX-License-Identifier: GPL-3.0-or-later
// Products of packed weights with 1..8 tokens, on the tensor core: a tile of 16 rows times 8 columns, of which `tokens` are in use.
// * Codes become fragments in registers, in the packing's order (codes.cuh).
// * Codes stream through shared memory, each warp a ring of its own filled by 16-byte asynchronous copies, so that what is in flight
//   does not depend on registers. A lane reads 4 bytes from the ring; the two rows are read in an order that meets no bank twice.
// * Every 32 values are summed on their own and scaled once: total += scale * sum(code * x) + min * sum(x), as on the CPU. Warps take
//   stages of the row in turn and their totals are added in the order of the warps, whatever the number of tokens.
// * One token: each block makes the pieces of x for itself (row_input.cuh), while its first codes are on their way.
#pragma once
#include "engine/cuda/codes.cuh"
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/pieces.cuh"
#include "engine/cuda/row_input.cuh"

namespace winnow::cuda {

constexpr int kPackedWarps = 8, kStages = 4;

struct PackedJob {
  MatrixView w;
  Pointer<const float> bias;
  Pointer<float> y;
  int64_t yStride = 0;
  int tiles = 0;
  bool accumulate = false;
};
struct Pieces {  // pieces.cuh
  Pointer<const uint32_t> words;
  Pointer<const float> scales;
  Pointer<const int32_t> sums;
  int tokens = 0;
};
struct PackedJobs {
  PackedJob job[kMostTargets];
  Pieces x;
  int chunks = 0;
};

template <int bits, Coding coding>
struct Ring {  // words of shared memory
  static constexpr int kChunks = bits >= 5 ? 2 : 4;  // to a stage: half a kilobyte to one
  static constexpr int kChunkWords = 16 * bits;
  static constexpr int kScales = kChunks * kChunkWords, kMins = kScales + kChunks * 8;
  static constexpr int kSteps = kMins + kChunks * 8;
  static constexpr int kStageWords = kSteps + (hasSteps(coding) ? kChunks * 8 : 0);
  static constexpr int kWarpWords = kStages * kStageWords;
};

template <int bits, Coding coding>
__device__ inline void fillStage(const MatrixView& w, int tile, int firstChunk, int lane, Pointer<uint32_t> ring) {
  using R = Ring<bits, coding>;
  const int count = min(R::kChunks, w.chunks - firstChunk);
  Pointer<const uint32_t> codes = w.codes + (static_cast<int64_t>(tile) * w.chunks + firstChunk) * R::kChunkWords;
  for (int p = lane; p < count * 4 * bits; p += 32) copyAsync16(ring + p * 4, codes + p * 4);
  if constexpr (coding == Coding::e2m1) {  // exponents: one copy, and no scales
    if (lane < count) copyAsync16(ring + R::kScales + lane * 8, w.steps + stepAt(w, tile, firstChunk + lane));
  } else if (lane < count * 2) {  // two copies hold the 16 scales of a chunk
    const int chunk = firstChunk + lane / 2;
    const int64_t at = scaleAt(w, tile, chunk) + lane % 2 * 8;
    copyAsync16(ring + R::kScales + lane * 4, w.scales + at);
    if (hasMins(coding) && w.mins) copyAsync16(ring + R::kMins + lane * 4, w.mins + at);
    if constexpr (hasSteps(coding)) copyAsync16(ring + R::kSteps + lane * 4, w.steps + stepAt(w, tile, chunk) + lane % 2 * 8);
  }
}

// Of each part of a chunk, d[0], d[1]: row g, tokens 2t and 2t + 1; d[2], d[3]: row g + 8. x: sums of it, for the same tokens.
template <Coding coding>
struct ChunkSums {
  float d[codeParts(coding)][4], x[2];
};

template <ActivationMode mode, Coding coding>
__device__ inline ChunkSums<coding> multiplyFloats(const Codes& codes, const MatrixView& w, Pointer<const uint32_t> pieces, bool active, int t, uint32_t level) {
  constexpr int kPieces = mode == ActivationMode::f32 ? 3 : 1, kLast = codeParts(coding) - 1;
  constexpr uint32_t kOnes = mode == ActivationMode::f32 ? 0x3f803f80u : 0x3c003c00u;
  const CodeFragments<mode, coding> f = floatsOf<mode, coding>(codes, w.offset, level);
  const uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
  ChunkSums<coding> out = {};
  float x[4] = {};
#pragma unroll
  for (int i = kPieces - 1; i >= 0; --i) {  // the smallest first
    const uint4 v = active ? load<uint4>(pieces + i * 16 + t * 4) : make_uint4(0, 0, 0, 0);
    const uint32_t first[2] = {v.x, v.y}, second[2] = {v.z, v.w};
#pragma unroll
    for (int j = codePieces(mode, coding) - 1; j >= 0; --j) {
      if (!counts(i, j)) continue;
      mmaFloats<mode>(out.d[0], f.first[j], first);
      mmaFloats<mode>(out.d[kLast], f.second[j], second);
    }
    if (!hasMins(coding) || !w.mins) continue;
    mmaFloats<mode>(x, ones, first);
    mmaFloats<mode>(x, ones, second);
  }
  out.x[0] = x[0], out.x[1] = x[1];
  return out;
}

template <Coding coding>
__device__ inline ChunkSums<coding> multiplyBytes(const Codes& codes, const MatrixView& w, const Pieces& x, int chunk, bool active, int g, int t,
                                                  uint32_t level) {
  const int64_t at = static_cast<int64_t>(chunk) * x.tokens;
  const uint2 v = active ? load<uint2>(x.words + (at + g) * 8 + t * 2) : make_uint2(0, 0);
  const uint32_t b[2] = {v.x, v.y};
  int d[codeParts(coding)][4] = {};
  if constexpr (signedBytes(coding)) {
    sumSigned<coding>(d, bytesOf<coding>(codes, w.offset, level), b);
  } else {
    const uint32_t a[4] = {codes.low[0], codes.low[1], codes.high[0], codes.high[1]};
    mmaBytes(d[0], a, b);
  }
  ChunkSums<coding> out = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int token = 2 * t + i;
    if (token >= x.tokens) continue;
    const float scale = x.scales[at + token];
    if constexpr (signedBytes(coding)) {
#pragma unroll
      for (int part = 0; part < codeParts(coding); ++part)
#pragma unroll
        for (int r = 0; r < 2; ++r) out.d[part][2 * r + i] = static_cast<float>(d[part][2 * r + i]) * scale;
    } else {
      const int sum = x.sums[at + token];
      out.d[0][i] = static_cast<float>(d[0][i] - w.offset * sum) * scale;
      out.d[0][2 + i] = static_cast<float>(d[0][2 + i] - w.offset * sum) * scale;
      out.x[i] = static_cast<float>(sum) * scale;
    }
  }
  return out;
}

template <int bits, ActivationMode mode, Coding coding>
__device__ inline void multiplyStage(const Pieces& x, const MatrixView& w, Pointer<uint32_t> ring, int firstChunk, int g, int t,
                                     uint32_t level, float (&total)[4]) {
  using R = Ring<bits, coding>;
#pragma unroll
  for (int i = 0; i < R::kChunks; ++i) {
    const int chunk = firstChunk + i;
    if (chunk >= w.chunks) break;
    const bool active = g < x.tokens;
    const Codes codes = loadCodes<bits>(ring + i * R::kChunkWords, g, t);
    ChunkSums<coding> s;
    if constexpr (mode == ActivationMode::int8)
      s = multiplyBytes<coding>(codes, w, x, chunk, active, g, t, level);
    else
      s = multiplyFloats<mode, coding>(codes, w, x.words + (static_cast<int64_t>(chunk) * x.tokens + g) * pieceWords(mode), active, t, level);
    Pointer<uint32_t> steps = ring + R::kSteps + i * 8;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int part = 0; part < codeParts(coding); ++part) {
        const float scale = scaleOfRow<coding>(ring + R::kScales + i * 8, steps + 4 * part, g + 8 * r);
        total[2 * r] = fmaf(s.d[part][2 * r], scale, total[2 * r]);
        total[2 * r + 1] = fmaf(s.d[part][2 * r + 1], scale, total[2 * r + 1]);
      }
      if (!hasMins(coding) || !w.mins) continue;
      const float least = scaleOfRow<coding>(ring + R::kMins + i * 8, steps + 4, g + 8 * r);
      total[2 * r] = fmaf(s.x[0], least, total[2 * r]);
      total[2 * r + 1] = fmaf(s.x[1], least, total[2 * r + 1]);
    }
  }
}

// One tile of all targets'; `begun` comes once its first codes are on their way. ring: the warp's; totals: [kPackedWarps][128].
template <int bits, ActivationMode mode, Coding coding, class Begun>
__device__ inline void multiplyTile(const PackedJobs& jobs, const Pieces& x, int tile, Pointer<uint32_t> ring, Pointer<float> totals, Begun begun) {
  using R = Ring<bits, coding>;
  int which = 0;
  while (tile >= jobs.job[which].tiles) tile -= jobs.job[which++].tiles;
  const PackedJob& job = jobs.job[which];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const auto fill = [&](int i) {  // the i-th stage of this warp
    const int chunk = (warp + i * kPackedWarps) * R::kChunks;
    if (chunk < jobs.chunks) fillStage<bits, coding>(job.w, tile, chunk, lane, ring + i % kStages * R::kStageWords);
    commitCopies();
  };
  const uint32_t level = levelOfLane<mode, coding>(job.w);
  float total[4] = {};
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) fill(i);
  begun();
  for (int i = 0; (warp + i * kPackedWarps) * R::kChunks < jobs.chunks; ++i) {
    waitCopies<kStages - 2>();
    __syncwarp();  // all lanes' copies have landed, and all are done with the stage that is filled next
    fill(i + kStages - 1);
    multiplyStage<bits, mode, coding>(x, job.w, ring + i % kStages * R::kStageWords, (warp + i * kPackedWarps) * R::kChunks, g, t, level, total);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) totals[warp * 128 + (2 * t + i % 2) * 16 + g + i / 2 * 8] = total[i];
  __syncthreads();
  const int row = tile * 16 + static_cast<int>(threadIdx.x) % 16, token = static_cast<int>(threadIdx.x) / 16;
  if (token >= x.tokens || row >= job.w.rows) return;
  float y = 0;
#pragma unroll
  for (int w = 0; w < kPackedWarps; ++w) y += totals[w * 128 + static_cast<int>(threadIdx.x)];
  if constexpr (mode == ActivationMode::int8 && looksUp(mode, coding)) y *= job.w.levelUnit;
  if (job.bias) y += job.bias[row];
  const int64_t at = token * job.yStride + row;
  if (job.accumulate) y += job.y[at];
  job.y[at] = y;
}

template <int bits, ActivationMode mode, Coding coding>
__global__ void __launch_bounds__(kPackedWarps * 32) multiplyPackedTiles(const __grid_constant__ PackedJobs jobs) {
  using R = Ring<bits, coding>;
  __shared__ SharedArray<uint32_t, kPackedWarps * R::kWarpWords> rings;
  __shared__ SharedArray<float, kPackedWarps * 128> totals;
  Pointer<uint32_t> ring = rings.pointer() + static_cast<int>(threadIdx.x) / 32 * R::kWarpWords;
  multiplyTile<bits, mode, coding>(jobs, jobs.x, static_cast<int>(blockIdx.x), ring, totals.pointer(), [] {});
}

template <int bits, ActivationMode mode, Coding coding>
__global__ void __launch_bounds__(kPackedWarps * 32)
multiplyPackedOneRow(const __grid_constant__ PackedJobs jobs, const __grid_constant__ RowSource source, int tiles) {
  static_assert(kPackedWarps == kRowWarps);
  using R = Ring<bits, coding>;
  __shared__ SharedArray<uint32_t, kPackedWarps * R::kWarpWords> rings;
  __shared__ SharedArray<float, kPackedWarps * 128> totals;
  Pointer<uint32_t> ring = rings.pointer() + static_cast<int>(threadIdx.x) / 32 * R::kWarpWords;
  const Fragments made = fragmentsInShared<mode>(jobs.chunks);
  const Pieces x{made.words, made.scales, made.sums, 1};
  const int first = static_cast<int>(blockIdx.x) * source.perBlock, last = min(first + source.perBlock, tiles);
  for (int tile = first; tile < last; ++tile) {
    multiplyTile<bits, mode, coding>(jobs, x, tile, ring, totals.pointer(), [&] {
      if (tile == first) makeFragments<mode>(source, made, totals.pointer());
    });
    __syncthreads();  // totals are free again
  }
}

}  // namespace winnow::cuda
