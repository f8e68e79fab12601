// SPDX-License-Identifier: GPL-3.0-or-later
// Products of packed weights with 1..8 tokens, on the tensor core: a tile of 16 rows times 8 columns, of which `tokens` are in use.
// * The packing's order is kept. Of each chunk of 32 values, lane (g, t) of a warp needs dwords t and t + 4 of rows g and g + 8: four
//   registers that are an A fragment as soon as the codes are floats (or bytes: int8 multiplies them as they are).
// * Codes stream through shared memory, each warp a ring of its own filled by 16-byte asynchronous copies, so that what is in flight
//   does not depend on registers. A lane reads 4 bytes from the ring; the two rows are read in an order that meets no bank twice.
// * Every 32 values are summed on their own and scaled once: total += scale * sum(code * x) + min * sum(x), as on the CPU. Warps take
//   stages of the row in turn and their totals are added in the order of the warps, whatever the number of tokens.
#pragma once
#include "engine/cuda/matrix.cuh"
#include "engine/cuda/pieces.cuh"
#include "engine/cuda/ptx.cuh"

namespace winnow::cuda {

constexpr int kPackedWarps = 8, kStages = 4;

struct PackedJob {
  Pointer<const uint32_t> codes;
  Pointer<const uint16_t> scales, mins;
  Pointer<const float> bias;
  Pointer<float> y;
  int64_t yStride = 0;
  int rows = 0, tiles = 0, groups = 0, groupChunks = 0, offset = 0;  // offset: what a symmetric code is larger by
  bool accumulate = false;
};
struct PackedJobs {
  PackedJob job[kMostTargets];
  Pointer<const uint32_t> pieces;
  Pointer<const float> xScales;
  Pointer<const int32_t> xSums;
  int chunks = 0, tokens = 0;
};

template <int bits>
struct Ring {  // words of shared memory
  static constexpr int kChunks = bits >= 5 ? 2 : 4;  // to a stage: half a kilobyte to one
  static constexpr int kChunkWords = 16 * bits;
  static constexpr int kScales = kChunks * kChunkWords, kMins = kScales + kChunks * 8;
  static constexpr int kStageWords = kMins + kChunks * 8;
  static constexpr int kWarpWords = kStages * kStageWords;
};

template <int bits>
__device__ inline void fillStage(const PackedJob& job, int chunks, int tile, int firstChunk, int lane, Pointer<uint32_t> ring) {
  using R = Ring<bits>;
  const int count = min(R::kChunks, chunks - firstChunk);
  Pointer<const uint32_t> codes = job.codes + (static_cast<int64_t>(tile) * chunks + firstChunk) * R::kChunkWords;
  for (int p = lane; p < count * 4 * bits; p += 32) copyAsync16(ring + p * 4, codes + p * 4);
  if (lane >= count * 2) return;  // two copies hold the 16 scales of a chunk
  const int group = (firstChunk + lane / 2) / job.groupChunks;
  const int64_t at = (static_cast<int64_t>(tile) * job.groups + group) * 16 + lane % 2 * 8;
  copyAsync16(ring + R::kScales + lane * 4, job.scales + at);
  if (job.mins) copyAsync16(ring + R::kMins + lane * 4, job.mins + at);
}

// Dword d of rows g and g + 8 for all planes; both dwords t and t + 4 of the chunk for one look at the ring where planes are narrow.
template <int width>
__device__ inline void planeWords(Pointer<uint32_t> base, int t, int row, uint32_t& low, uint32_t& high) {
  if constexpr (width == 8) {
    low = base[t * 16 + row];
    high = base[(t + 4) * 16 + row];
  } else {
    constexpr uint32_t kMask = 0x01010101u * ((1u << width) - 1);
    const uint32_t word = base[t % width * 16 + row];
    low = word >> (t - t % width) & kMask;
    high = word >> (t - t % width + 4) & kMask;
  }
}
template <int bits>
__device__ inline void rowCodes(Pointer<uint32_t> chunk, int t, int row, uint32_t& low, uint32_t& high) {
  constexpr int kBase = bits == 8 ? 8 : bits >= 4 ? 4 : 2;
  planeWords<kBase>(chunk, t, row, low, high);
  if constexpr (bits != kBase) {
    uint32_t l, h;
    planeWords<bits - kBase>(chunk + 16 * kBase, t, row, l, h);
    low |= l << kBase;
    high |= h << kBase;
  }
}

// Four codes as two registers of two floats, less the offset; exact.
__device__ inline void codesToHalves(uint32_t codes, __half2 minus, uint32_t& first, uint32_t& second) {
  // The bytes 0x64, c are the f16 1024 + c.
  const uint32_t a = __byte_perm(codes, 0x64646464u, 0x4140), b = __byte_perm(codes, 0x64646464u, 0x4342);
  const auto less = [minus](uint32_t two) {
    const __half2 value = __halves2half2(__ushort_as_half(static_cast<uint16_t>(two)), __ushort_as_half(static_cast<uint16_t>(two >> 16)));
    const __half2 r = __hsub2(value, minus);
    return static_cast<uint32_t>(__half_as_ushort(__low2half(r))) | static_cast<uint32_t>(__half_as_ushort(__high2half(r))) << 16;
  };
  first = less(a);
  second = less(b);
}
__device__ inline void codesToBf16(uint32_t codes, float minus, uint32_t& first, uint32_t& second) {
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = __uint_as_float(0x4b000000u | (codes >> (8 * i) & 0xff)) - minus;  // 0x4b000000: 2^23
  first = floatToBf16(v[0]) | static_cast<uint32_t>(floatToBf16(v[1])) << 16;
  second = floatToBf16(v[2]) | static_cast<uint32_t>(floatToBf16(v[3])) << 16;
}

struct Codes {  // of rows g and g + 8
  uint32_t low[2], high[2];
};
template <int bits>
__device__ inline Codes loadCodes(Pointer<uint32_t> chunk, int g, int t) {
  // Lanes t = 2, 3 begin with the other row: 16 words apart is half the banks.
  const int first = g + (t & 2) * 4;
  uint32_t low[2], high[2];
  rowCodes<bits>(chunk, t, first, low[0], high[0]);
  rowCodes<bits>(chunk, t, first ^ 8, low[1], high[1]);
  const bool swap = (t & 2) != 0;
  return {{swap ? low[1] : low[0], swap ? low[0] : low[1]}, {swap ? high[1] : high[0], swap ? high[0] : high[1]}};
}

// d[0], d[1]: row g, tokens 2t and 2t + 1; d[2], d[3]: row g + 8. sums: of x, for the same tokens.
struct ChunkSums {
  float d[4], x[2];
};

template <ActivationMode mode>
__device__ inline ChunkSums multiplyFloats(const Codes& codes, const PackedJob& job, Pointer<const uint32_t> pieces, bool active, int t) {
  constexpr int kPieces = mode == ActivationMode::f32 ? 3 : 1;
  constexpr uint32_t kOnes = mode == ActivationMode::f32 ? 0x3f803f80u : 0x3c003c00u;
  uint32_t low[4], high[4];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if constexpr (mode == ActivationMode::f32) {
      const float minus = 8388608.0f + static_cast<float>(job.offset);
      codesToBf16(codes.low[r], minus, low[r], low[2 + r]);
      codesToBf16(codes.high[r], minus, high[r], high[2 + r]);
    } else {
      const __half minus = __float2half_rn(1024.0f + static_cast<float>(job.offset));
      codesToHalves(codes.low[r], __halves2half2(minus, minus), low[r], low[2 + r]);
      codesToHalves(codes.high[r], __halves2half2(minus, minus), high[r], high[2 + r]);
    }
  }
  const auto mma = [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mode == ActivationMode::f32 ? mmaBf16(d, a, b) : mmaHalf(d, a, b);
  };
  const uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
  float d[4] = {}, x[4] = {};
#pragma unroll
  for (int i = kPieces - 1; i >= 0; --i) {  // the smallest first
    const uint4 v = active ? load<uint4>(pieces + i * 16 + t * 4) : make_uint4(0, 0, 0, 0);
    const uint32_t first[2] = {v.x, v.y}, second[2] = {v.z, v.w};
    mma(d, low, first);
    mma(d, high, second);
    if (!job.mins) continue;
    mma(x, ones, first);
    mma(x, ones, second);
  }
  return {{d[0], d[1], d[2], d[3]}, {x[0], x[1]}};
}

__device__ inline ChunkSums multiplyBytes(const Codes& codes, const PackedJob& job, const PackedJobs& jobs, int chunk, bool active, int g,
                                          int t) {
  const int64_t at = static_cast<int64_t>(chunk) * jobs.tokens;
  const uint2 v = active ? load<uint2>(jobs.pieces + (at + g) * 8 + t * 2) : make_uint2(0, 0);
  const uint32_t a[4] = {codes.low[0], codes.low[1], codes.high[0], codes.high[1]}, b[2] = {v.x, v.y};
  int d[4] = {};
  mmaBytes(d, a, b);
  ChunkSums out = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int token = 2 * t + i;
    if (token >= jobs.tokens) continue;
    const int sum = jobs.xSums[at + token];
    const float scale = jobs.xScales[at + token];
    out.d[i] = static_cast<float>(d[i] - job.offset * sum) * scale;
    out.d[2 + i] = static_cast<float>(d[2 + i] - job.offset * sum) * scale;
    out.x[i] = static_cast<float>(sum) * scale;
  }
  return out;
}

// The packed 16 bits of row `row` out of eight words.
__device__ inline float halfOfRow(Pointer<uint32_t> words, int row) {
  const uint32_t two = words[row / 2];
  return row % 2 ? highHalf(two) : lowHalf(two);
}

template <int bits, ActivationMode mode>
__device__ inline void multiplyStage(const PackedJobs& jobs, const PackedJob& job, Pointer<uint32_t> ring, int firstChunk, int g, int t,
                                     float (&total)[4]) {
  using R = Ring<bits>;
#pragma unroll
  for (int i = 0; i < R::kChunks; ++i) {
    const int chunk = firstChunk + i;
    if (chunk >= jobs.chunks) break;
    const bool active = g < jobs.tokens;
    const Codes codes = loadCodes<bits>(ring + i * R::kChunkWords, g, t);
    ChunkSums s;
    if constexpr (mode == ActivationMode::int8)
      s = multiplyBytes(codes, job, jobs, chunk, active, g, t);
    else
      s = multiplyFloats<mode>(codes, job, jobs.pieces + (static_cast<int64_t>(chunk) * jobs.tokens + g) * pieceWords(mode), active, t);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float scale = halfOfRow(ring + R::kScales + i * 8, g + 8 * r);
      total[2 * r] = fmaf(s.d[2 * r], scale, total[2 * r]);
      total[2 * r + 1] = fmaf(s.d[2 * r + 1], scale, total[2 * r + 1]);
      if (!job.mins) continue;
      const float least = halfOfRow(ring + R::kMins + i * 8, g + 8 * r);
      total[2 * r] = fmaf(s.x[0], least, total[2 * r]);
      total[2 * r + 1] = fmaf(s.x[1], least, total[2 * r + 1]);
    }
  }
}

template <int bits, ActivationMode mode>
__global__ void __launch_bounds__(kPackedWarps * 32) multiplyPackedTiles(const __grid_constant__ PackedJobs jobs) {
  using R = Ring<bits>;
  __shared__ SharedArray<uint32_t, kPackedWarps * R::kWarpWords> rings;
  __shared__ SharedArray<float, kPackedWarps * 128> totals;
  int tile = static_cast<int>(blockIdx.x), which = 0;
  while (tile >= jobs.job[which].tiles) tile -= jobs.job[which++].tiles;
  const PackedJob& job = jobs.job[which];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  Pointer<uint32_t> ring = rings.pointer() + warp * R::kWarpWords;
  const auto fill = [&](int i) {  // the i-th stage of this warp
    const int chunk = (warp + i * kPackedWarps) * R::kChunks;
    if (chunk < jobs.chunks) fillStage<bits>(job, jobs.chunks, tile, chunk, lane, ring + i % kStages * R::kStageWords);
    commitCopies();
  };
  float total[4] = {};
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) fill(i);
  for (int i = 0; (warp + i * kPackedWarps) * R::kChunks < jobs.chunks; ++i) {
    waitCopies<kStages - 2>();
    __syncwarp();  // all lanes' copies have landed, and all are done with the stage that is filled next
    fill(i + kStages - 1);
    multiplyStage<bits, mode>(jobs, job, ring + i % kStages * R::kStageWords, (warp + i * kPackedWarps) * R::kChunks, g, t, total);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) totals[warp * 128 + (2 * t + i % 2) * 16 + g + i / 2 * 8] = total[i];
  __syncthreads();
  const int row = tile * 16 + static_cast<int>(threadIdx.x) % 16, token = static_cast<int>(threadIdx.x) / 16;
  if (token >= jobs.tokens || row >= job.rows) return;
  float y = 0;
#pragma unroll
  for (int w = 0; w < kPackedWarps; ++w) y += totals[w * 128 + static_cast<int>(threadIdx.x)];
  if (job.bias) y += job.bias[row];
  const int64_t at = token * job.yStride + row;
  if (job.accumulate) y += job.y[at];
  job.y[at] = y;
}

}  // namespace winnow::cuda
