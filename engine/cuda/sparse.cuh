// SPDX-License-Identifier: GPL-3.0-or-later
// Kernels of sparse.h. Channels lie as engine/weights/channel_major.h says: half a warp takes a unit of 128 values of a channel, eight to a lane.
#pragma once
#include "engine/cuda/arrive.cuh"
#include "engine/cuda/prepare.cuh"
#include "engine/cuda/ptx.cuh"
#include "engine/weights/channel_major.h"

namespace winnow::cuda {

constexpr int kChannelUnit = ChannelMajor::kUnit, kHalfWarp = 16;
constexpr int kColumnWarps = 4, kColumnRows = 2 * kChannelUnit, kColumnsAtOnce = 4;
constexpr int kRowWarpsOfChannels = 4, kRowsAtOnce = 4;

// --- what takes part -----------------------------------------------------------------------------------------------------

struct KeepJob {
  PrepareJob made;
  Pointer<const uint32_t> within;
  Pointer<float> masked, rounded, values;
  Pointer<uint32_t> masks, ticket;
  Pointer<int32_t> list, count;
  float threshold = 0;
  int padded = 0;
};

struct ChunkCodes {  // of each warp, to read back what 8 bits make of a chunk
  SharedArray<uint32_t, 8 * kRowWarps> words;
  SharedArray<float, kRowWarps> scales;
  SharedArray<int32_t, kRowWarps> sums;
};
// Of a chunk, one value to a lane; every lane of the warp calls it.
__device__ inline float roundedInChunk(ActivationMode mode, float v, ChunkCodes& codes) {
  if (mode != ActivationMode::int8) return roundedAs(mode, v);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();  // the last chunk has been read back
  quantizeChunk(v, lane, warp, codes.words.pointer() + 8 * warp, codes.scales.pointer(), codes.sums.pointer(), nullptr);
  __syncwarp();
  const uint32_t word = codes.words[8 * warp + lane % 16 / 4 * 2 + lane / 16];
  return static_cast<float>(static_cast<int8_t>(word >> (8 * (lane % 4)))) * codes.scales[warp];
}

// By one block: places of the bits of all masks.
__device__ inline void listKept(const KeepJob& job, SharedArray<int, kRowThreads>& offsets, SharedArray<int, kRowWarps>& sums) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  int before = 0;  // in earlier batches of masks
  for (int first = 0; first < job.made.chunks; first += kRowThreads) {
    const int chunk = first + thread, mine = chunk < job.made.chunks ? __popc(job.masks[chunk]) : 0;
    int upTo = mine;
#pragma unroll
    for (unsigned d = 1; d < 32; d *= 2) {
      const int other = __shfl_up_sync(kAllLanes, upTo, d);
      if (lane >= static_cast<int>(d)) upTo += other;
    }
    __syncthreads();  // the last batch has been placed
    if (lane == 31) sums[warp] = upTo;
    __syncthreads();
    int all = 0;
    for (int w = 0; w < kRowWarps; ++w) {
      if (w == warp) offsets[thread] = before + all + upTo - mine;
      all += sums[w];
    }
    __syncthreads();
    for (int i = warp; i < min(kRowThreads, job.made.chunks - first); i += kRowWarps) {
      const uint32_t mask = job.masks[first + i];
      if ((mask >> lane & 1) == 0) continue;
      const int at = offsets[i] + __popc(mask & ((1u << lane) - 1)), k = (first + i) * 32 + lane;
      job.list[at] = k;
      job.values[at] = static_cast<float>(job.rounded[k]);
    }
    before += all;
  }
  if (thread == 0) job.count[0] = before;
}

// Warps take chunks of the row; the last block makes the list.
template <Source::Kind kind>
__global__ void __launch_bounds__(kRowThreads) keepEntries(const __grid_constant__ KeepJob job) {
  __shared__ RowScratch scratch;
  __shared__ ChunkCodes codes;
  __shared__ SharedArray<int, kRowThreads> offsets;
  __shared__ SharedArray<int, kRowWarps> sums;
  __shared__ SharedArray<uint32_t, 1> last;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const RowNorm norm = normOf<kRowThreads>(job.made, kind, job.made.x, scratch.pointer());
  for (int chunk = static_cast<int>(blockIdx.x) * kRowWarps + warp; chunk < job.padded / 32; chunk += static_cast<int>(gridDim.x) * kRowWarps) {
    const int k = chunk * 32 + lane;
    const bool inside = k < job.made.cols && (!job.within || (job.within[chunk] >> lane & 1) != 0);
    const float v = inside ? madeValue(job.made, kind, norm, 0, k) : 0.0f;
    const bool kept = inside && !(fabsf(v) <= job.threshold);
    const uint32_t mask = __ballot_sync(kAllLanes, kept);
    const float rounded = roundedInChunk(job.made.mode, kept ? v : 0.0f, codes);
    job.rounded[k] = rounded;
    if (k < job.made.cols) job.masked[k] = kept ? v : 0.0f;
    if (lane == 0 && chunk < job.made.chunks) job.masks[chunk] = mask;
  }
  if (job.count && arrivesLast(job.ticket, gridDim.x, last)) listKept(job, offsets, sums);
}

// --- channels ------------------------------------------------------------------------------------------------------------

// Integers with an offset, or places in a table of 16 values.
enum class ChannelKind : uint8_t { f32, f16, bf16, integers4, table4, integers8 };

struct ChannelView {
  Pointer<const float> f32;
  Pointer<const uint16_t> half;
  Pointer<const uint32_t> words;
  Pointer<const uint16_t> halfScales, halfMins;
  Pointer<const float> wideScales, wideMins;
  int64_t stride = 0, scaleStride = 0;  // in values of what lies there
  int length = 0, padded = 0;           // values of a channel; those that may be read
  int groupShift = 0;
  bool grouped = false, adds = false;   // has scales; and minimums
  bool vector = true;                   // channels begin at 16 bytes, in whole units of 8 values
  float offset = 0;
  float table[16] = {};

  __device__ float scale(int64_t at) const { return wideScales ? static_cast<float>(wideScales[at]) : halfToFloat(halfScales[at]); }
  __device__ float least(int64_t at) const { return wideMins ? static_cast<float>(wideMins[at]) : halfToFloat(halfMins[at]); }
};

template <ChannelKind kind>
__device__ constexpr bool lies4() { return kind == ChannelKind::integers4 || kind == ChannelKind::table4; }
// Where in its unit value k of a lane lies.
template <ChannelKind kind>
__device__ inline int placeOf(int l, int k) {
  return lies4<kind>() || kind == ChannelKind::integers8 ? kHalfWarp * k + l : 8 * l + k;
}

struct ChannelBits {  // eight values as they lie
  uint32_t words[8];
};

template <ChannelKind kind>
__device__ inline ChannelBits bitsOf(const ChannelView& view, int channel, int unit, int l) {
  ChannelBits bits;
  const int64_t at = channel * view.stride;
  if constexpr (lies4<kind>()) {
    bits.words[0] = view.words[at + unit * kHalfWarp + l];
  } else if constexpr (kind == ChannelKind::integers8) {
    bits.words[0] = view.words[at + unit * 2 * kHalfWarp + l];
    bits.words[1] = view.words[at + unit * 2 * kHalfWarp + kHalfWarp + l];
  } else {
    const int first = unit * kChannelUnit + 8 * l;
    const auto halves = [](uint32_t low, uint32_t high) { return low | high << 16; };
    if (view.vector) {
      const bool inside = first < view.padded;  // whole eights
      if constexpr (kind == ChannelKind::f32) {
        const uint4 zero = make_uint4(0, 0, 0, 0), low = inside ? loadStream16(view.f32 + at + first) : zero, high = inside ? loadStream16(view.f32 + at + first + 4) : zero;
        bits.words[0] = low.x, bits.words[1] = low.y, bits.words[2] = low.z, bits.words[3] = low.w;
        bits.words[4] = high.x, bits.words[5] = high.y, bits.words[6] = high.z, bits.words[7] = high.w;
      } else {
        const uint4 all = inside ? loadStream16(view.half + at + first) : make_uint4(0, 0, 0, 0);
        bits.words[0] = all.x, bits.words[1] = all.y, bits.words[2] = all.z, bits.words[3] = all.w;
      }
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const bool inside = first + k < view.padded;
        if constexpr (kind == ChannelKind::f32) bits.words[k] = inside ? __float_as_uint(view.f32[at + first + k]) : 0u;
        if constexpr (kind != ChannelKind::f32) {
          const uint32_t half = inside ? static_cast<uint32_t>(view.half[at + first + k]) : 0u;
          bits.words[k / 2] = k % 2 == 0 ? half : halves(bits.words[k / 2], half);
        }
      }
    }
  }
  return bits;
}

// Without the scale.
template <ChannelKind kind, class Table>
__device__ inline float valueOf(const ChannelView& view, const ChannelBits& bits, int k, Table& table) {
  if constexpr (kind == ChannelKind::f32) return __uint_as_float(bits.words[k]);
  if constexpr (kind == ChannelKind::f16) return k % 2 == 0 ? lowHalf(bits.words[k / 2]) : highHalf(bits.words[k / 2]);
  if constexpr (kind == ChannelKind::bf16) return __uint_as_float(k % 2 == 0 ? bits.words[k / 2] << 16 : bits.words[k / 2] & 0xffff0000u);
  if constexpr (kind == ChannelKind::table4) return table[static_cast<int>(bits.words[0] >> (4 * k) & 15)];
  const uint32_t code = lies4<kind>() ? bits.words[0] >> (4 * k) & 15 : bits.words[k / 4] >> (8 * (k % 4)) & 255;
  return __uint_as_float(0x4b000000u | code) - (8388608.0f + view.offset);  // exact
}

// --- columns -------------------------------------------------------------------------------------------------------------

struct ColumnJob {
  ChannelView view;
  Pointer<const float> bias;
  Pointer<float> y;
  int rows = 0, parts = 0;
  bool accumulate = false;
};
struct ColumnJobs {
  ColumnJob job[kMostTargets];
  Pointer<const int32_t> list, count;
  Pointer<const float> values;
  Pointer<float> partial;  // [splits, parts of all targets, kColumnRows]
  Pointer<uint32_t> tickets;
};

struct ColumnSums {  // of the eight rows of a lane
  float total[8] = {}, group[8] = {};
  float inputs = 0;  // of the group
};

template <ChannelKind kind>
__device__ inline void closeGroup(const ChannelView& view, int group, int unit, int l, ColumnSums& sums) {
  const int64_t first = group * view.scaleStride + unit * kChannelUnit;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int64_t at = first + placeOf<kind>(l, k);
    sums.total[k] = fmaf(sums.group[k], view.scale(at), sums.total[k]);
    if (view.adds) sums.total[k] = fmaf(view.least(at), sums.inputs, sums.total[k]);
    sums.group[k] = 0;
  }
  sums.inputs = 0;
}

// Columns list[begin, end).
template <ChannelKind kind, class Table>
__device__ inline void addColumns(const ColumnJobs& jobs, const ChannelView& view, int begin, int end, int unit, int l, Table& table, ColumnSums& sums) {
  int group = -1;
  for (int i = begin; i < end; i += kColumnsAtOnce) {
    ChannelBits bits[kColumnsAtOnce];
    int column[kColumnsAtOnce];
    float x[kColumnsAtOnce];
#pragma unroll
    for (int j = 0; j < kColumnsAtOnce; ++j) {  // beyond the end: the last once more, times zero
      const int at = min(i + j, end - 1);
      column[j] = jobs.list[at];
      x[j] = i + j < end ? static_cast<float>(jobs.values[at]) : 0.0f;
      bits[j] = bitsOf<kind>(view, column[j], unit, l);
    }
#pragma unroll
    for (int j = 0; j < kColumnsAtOnce; ++j) {
      if (i + j >= end) break;
      if (view.grouped && column[j] >> view.groupShift != group) {
        if (group >= 0) closeGroup<kind>(view, group, unit, l, sums);
        group = column[j] >> view.groupShift;
      }
      sums.inputs += x[j];
#pragma unroll
      for (int k = 0; k < 8; ++k) sums.group[k] = fmaf(valueOf<kind>(view, bits[j], k, table), x[j], sums.group[k]);
    }
  }
  if (group >= 0) closeGroup<kind>(view, group, unit, l, sums);
}

// blockIdx.x: kColumnRows rows, counted through all targets; blockIdx.y: part of the list, of which each warp takes a part again.
template <ChannelKind kind>
__global__ void __launch_bounds__(kColumnWarps * 32) multiplyKeptColumns(const __grid_constant__ ColumnJobs jobs) {
  __shared__ SharedArray<float, kColumnWarps * kColumnRows> shared;
  __shared__ SharedArray<float, 16> table;
  __shared__ SharedArray<uint32_t, 1> last;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, l = lane % kHalfWarp;
  int which = 0, part = static_cast<int>(blockIdx.x);
  while (part >= jobs.job[which].parts) part -= jobs.job[which++].parts;
  const ColumnJob& job = jobs.job[which];
  if (thread < 16) table[thread] = job.view.table[thread];
  __syncthreads();
  const int64_t count = jobs.count[0];
  const auto cut = [](int64_t n, unsigned i, unsigned of) { return static_cast<int>(n * i / of); };
  const int first = cut(count, blockIdx.y, gridDim.y), own = cut(count, blockIdx.y + 1, gridDim.y) - first;
  const int begin = first + cut(own, static_cast<unsigned>(warp), kColumnWarps), end = first + cut(own, static_cast<unsigned>(warp) + 1, kColumnWarps);
  const int unit = part * 2 + lane / kHalfWarp;
  ColumnSums sums;
  addColumns<kind>(jobs, job.view, begin, end, min(unit, job.view.padded / kChannelUnit - 1), l, table, sums);
#pragma unroll
  for (int k = 0; k < 8; ++k)
    shared[warp * kColumnRows + lane / kHalfWarp * kChannelUnit + placeOf<kind>(l, k)] = job.view.grouped ? sums.total[k] : sums.group[k];
  __syncthreads();
  const int64_t mine = static_cast<int64_t>(blockIdx.x) * kColumnRows, split = static_cast<int64_t>(gridDim.x) * kColumnRows;
  for (int r = thread; r < kColumnRows; r += kColumnWarps * 32) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kColumnWarps; ++w) sum += shared[w * kColumnRows + r];
    jobs.partial[blockIdx.y * split + mine + r] = sum;
  }
  if (!arrivesLast(jobs.tickets + blockIdx.x, gridDim.y, last)) return;
  for (int r = thread; r < kColumnRows; r += kColumnWarps * 32) {
    const int row = part * kColumnRows + r;
    if (row >= job.rows) break;
    float y = 0;
    for (unsigned i = 0; i < gridDim.y; ++i) y += jobs.partial[i * split + mine + r];
    if (job.bias) y += job.bias[row];
    if (job.accumulate) y += job.y[row];
    job.y[row] = y;
  }
}

// --- rows ----------------------------------------------------------------------------------------------------------------

struct RowJob {
  ChannelView view;
  Pointer<const float> bias;
  Pointer<float> y;
};
struct RowJobs {
  RowJob job[kMostTargets];
  Pointer<const int32_t> list, count;
  Pointer<const float> x;  // zero to a multiple of the unit
};

// A warp takes kRowsAtOnce listed rows; blockIdx.y: target.
template <ChannelKind kind>
__global__ void __launch_bounds__(kRowWarpsOfChannels * 32) multiplyListedRows(const __grid_constant__ RowJobs jobs) {
  __shared__ SharedArray<float, 16> table;
  const RowJob& job = jobs.job[blockIdx.y];
  const ChannelView& view = job.view;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, l = lane % kHalfWarp;
  const int count = jobs.count[0], first = (static_cast<int>(blockIdx.x) * kRowWarpsOfChannels + warp) * kRowsAtOnce;
  if (thread < 16) table[thread] = view.table[thread];
  __syncthreads();
  if (first >= count) return;
  int row[kRowsAtOnce];
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) row[r] = jobs.list[min(first + r, count - 1)];
  const int lastGroup = (view.length - 1) >> view.groupShift;
  float sums[kRowsAtOnce] = {};
  for (int unit = lane / kHalfWarp; unit * kChannelUnit < view.length; unit += 2) {
    ChannelBits bits[kRowsAtOnce];
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) bits[r] = bitsOf<kind>(view, row[r], unit, l);
    float scale[kRowsAtOnce] = {}, least[kRowsAtOnce] = {};
    int group = -1;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const int c = unit * kChannelUnit + placeOf<kind>(l, k);
      const float x = jobs.x[c];
      if (view.grouped && min(c >> view.groupShift, lastGroup) != group) {
        group = min(c >> view.groupShift, lastGroup);
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) {
          scale[r] = view.scale(row[r] * view.scaleStride + group);
          if (view.adds) least[r] = view.least(row[r] * view.scaleStride + group);
        }
      }
#pragma unroll
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const float w = valueOf<kind>(view, bits[r], k, table);
        sums[r] = fmaf(view.grouped ? fmaf(w, scale[r], least[r]) : w, x, sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    float y = warpSum(sums[r]);
    if (lane != 0 || first + r >= count) continue;
    if (job.bias) y += job.bias[row[r]];
    job.y[row[r]] = y;
  }
}

// --- prompts -------------------------------------------------------------------------------------------------------------

struct SquareJob {
  PrepareJob made;
  Pointer<float> weights;  // [tokens] or null
  Pointer<float> out;      // [cols]
};

// blockIdx.x: token. What its squares weigh, so that they add up to 1.
template <Source::Kind kind>
__global__ void __launch_bounds__(kRowThreads) unitWeights(const __grid_constant__ SquareJob job) {
  __shared__ SharedArray<float, kRowWarps> scratch;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * job.made.stride;
  const auto square = [&](float sum, int k) {
    const float v = madeValue(job.made, kind, {}, row, k);
    return fmaf(v, v, sum);
  };
  const float all = sumOfRow<kRowThreads>(job.made.cols, scratch.pointer(), square);
  if (threadIdx.x == 0) job.weights[blockIdx.x] = all > 0 ? 1 / all : 0.0f;
}

// A thread to a neuron, over all tokens.
template <Source::Kind kind>
__global__ void __launch_bounds__(kRowThreads) addSquares(const __grid_constant__ SquareJob job) {
  const int k = static_cast<int>(blockIdx.x) * kRowThreads + static_cast<int>(threadIdx.x);
  if (k >= job.made.cols) return;
  float sum = 0;
#pragma unroll 4
  for (int t = 0; t < job.made.tokens; ++t) {
    const float v = madeValue(job.made, kind, {}, t * job.made.stride, k);
    sum = fmaf(v * v, job.weights ? static_cast<float>(job.weights[t]) : 1.0f, sum);
  }
  job.out[k] = sum;
}

}  // namespace winnow::cuda
