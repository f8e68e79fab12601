// SPDX-License-Identifier: GPL-3.0-or-later
// Attention of many queries over paged keys and values on the tensor cores (flash attention). The queries of the heads of a group are the
// rows of a matrix, row = query * group + head, so that a group shares its keys however few the queries are. A block takes 64 rows, a
// warp 16 of them, and walks over tiles of 64 slots from the first on.
// * Keys and values are f16 as they lie. Rows of q are brought by a power of two to the size at which f16 is finest, and split into
//   `pieces` f16: 1 rounds them to 11 bits, 2 keep 22. Weights are scaled by 2^15 and split in the same way; the sums are f32.
// * While a tile's scores are made its values are on their way, while its values are weighed the next keys are.
// * A segment of a prompt may attend to listed blocks of the slots before it (critical.h): tiles are then two pieces of 32 slots each.
// * Taps are a second kernel that knows the sums and makes the scores again, so they leave the output as it is: a block takes 64 slots and
//   all rows in turn, and each column is summed in one order.
#pragma once
#include "engine/cache/blocks_read.h"
#include "engine/cuda/pages.cuh"
#include "engine/cuda/ptx.cuh"

namespace winnow::cuda {

constexpr int kPrefillThreads = 128, kPrefillRows = 64, kPrefillSlots = 64;
constexpr float kWeightScale = 32768.0f;

struct PrefillJob {
  Pages pages;
  Pointer<const float> q;        // [queries, heads, headDim]
  Pointer<float> out;            // [queries, heads, headDim]
  Pointer<float> states;         // [heads, queries, 2]: largest score, sum; or null
  Pointer<float> probabilities;  // [heads, queries, stride] or null
  Pointer<const float> reuse;    // [heads, queries, stride]
  Pointer<const int32_t> reuseHeads;  // [heads] or null
  Pointer<float> columnSums;     // [kvHeads, columnStride] or null
  Pointer<const int32_t> blocks, counts, taken;  // CriticalList, where blocks are listed
  int blockStride = 0, before = 0;
  int64_t stride = 0, columnStride = 0;
  int queries = 0, heads = 0, group = 0, headDim = 0, added = 0, window = 0;
  float scale = 0;
};

template <int dim, int pieces>
struct PrefillTiles {  // halves of shared memory; rows are padded so that eight neighbours meet no bank twice
  static constexpr int kStride = dim + 8, kTile = kPrefillRows * kStride;
  static constexpr int kKeys = pieces * kTile, kValues = kKeys + kTile;
  static constexpr size_t kBytes = size_t{2} * (kValues + kTile), kTapBytes = size_t{2} * (kKeys + kTile);
};

struct RowPlace {  // of a block of rows
  int kvHead, firstRow, rows, tokens;  // rows: of the whole matrix; tokens: slots of the kv head
  __device__ int own(const PrefillJob& job, int row) const { return tokens - job.queries + row / job.group; }  // slot of the row's query
  __device__ int headOf(const PrefillJob& job, int row) const { return kvHead * job.group + row % job.group; }
};

// Slots of a tile: all from `begin` on, or two pieces of those that are listed. Blocks of the list end where the segment begins.
struct NextSlots {
  int begin;
  __device__ int slot(int i) const { return begin + i; }
  __device__ bool holds(int) const { return true; }
};
struct ListedSlots {
  int low, high, before;  // where the pieces begin
  __device__ int piece(int i) const { return i < kCriticalSlots ? low : high; }
  __device__ int slot(int i) const { return piece(i) + i % kCriticalSlots; }
  __device__ bool holds(int i) const { return piece(i) >= before || slot(i) < before; }
};
static_assert(kPrefillSlots == 2 * kCriticalSlots);

// The listed blocks of a kv head and then the segment up to `end`, in pieces.
struct PieceList {
  Pointer<const int32_t> blocks;
  int count, before, end;
  __device__ int pieces() const { return count + (end - before + kCriticalSlots - 1) / kCriticalSlots; }
  __device__ int start(int i) const {
    if (i < count) return blocks[i] * kCriticalSlots;
    return min(before + (i - count) * kCriticalSlots, end);  // beyond the last: nobody sees it
  }
  __device__ ListedSlots tile(int i) const { return {start(2 * i), start(2 * i + 1), before}; }
};

// What the two rows of a lane see.
struct Sight {
  int own[2], oldest[2];  // slots up to own, positions above oldest
};
__device__ inline Sight sightOf(const PrefillJob& job, const RowPlace& at, int row) {
  Sight s;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    s.own[r] = row + 8 * r < at.rows ? at.own(job, row + 8 * r) : -1;
    s.oldest[r] = 0;
    if (job.window > 0 && s.own[r] >= 0) s.oldest[r] = job.pages.positions[at.kvHead * job.pages.positionStride + s.own[r]] - job.window;
  }
  return s;
}
__device__ inline bool sees(const PrefillJob& job, const RowPlace& at, const Sight& s, int r, int slot) {
  return slot <= s.own[r] && (job.window <= 0 || job.pages.positions[at.kvHead * job.pages.positionStride + slot] > s.oldest[r]);
}

// Queues a tile of 64 slots; zeros behind the last slot and the last component.
template <int dim, class Slots>
__device__ inline void queueTile(const PrefillJob& job, Pointer<const uint64_t> table, const RowPlace& at, const Slots& slots,
                                 Pointer<uint16_t> tile) {
  constexpr int kParts = dim / 8;
  const bool whole = job.headDim % 8 == 0;  // else rows begin at 8 bytes
  for (int p = static_cast<int>(threadIdx.x); p < kPrefillSlots * kParts; p += kPrefillThreads) {
    const int slot = slots.slot(p / kParts), c = p % kParts * 8;
    Pointer<const uint16_t> from = job.pages.slot<const uint16_t>(table, at.kvHead, min(slot, at.tokens - 1), job.headDim);
    Pointer<uint16_t> to = tile + p / kParts * (dim + 8) + c;
    const auto queue = [&]<int halves>(int at8) {
      const bool given = slot < at.tokens && slots.holds(p / kParts) && c + at8 < job.headDim;
      copyAsync<halves * 2>(to + at8, from + (given ? c + at8 : 0), given);
    };
    if (whole) {
      queue.template operator()<8>(0);
    } else {
      queue.template operator()<4>(0);
      queue.template operator()<4>(4);
    }
  }
}

// Rows of q times the scale, as pieces; factors bring scores back to their size.
template <int dim, int pieces>
__device__ inline void takeQueries(const PrefillJob& job, const RowPlace& at, Pointer<uint16_t> tile,
                                   SharedArray<float, kPrefillRows>& factors) {
  using T = PrefillTiles<dim, pieces>;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int r = warp * 16; r < warp * 16 + 16; ++r) {
    const int row = at.firstRow + r;
    const bool inside = row < at.rows;
    float x[dim / 32], largest = 0;
#pragma unroll
    for (int i = 0; i < dim / 32; ++i) {
      const int c = lane + 32 * i;
      const int64_t from = (static_cast<int64_t>(row / job.group) * job.heads + at.headOf(job, row)) * job.headDim + c;
      x[i] = inside && c < job.headDim ? job.q[from] * job.scale : 0.0f;
      largest = fmaxf(largest, fabsf(x[i]));
    }
    const int exponent = static_cast<int>(__float_as_uint(warpMax(largest)) >> 23) - 127, power = max(min(13 - exponent, 100), -100);
    const float up = __uint_as_float(static_cast<uint32_t>(127 + power) << 23);
    if (lane == 0) factors[r] = __uint_as_float(static_cast<uint32_t>(127 - power) << 23);
#pragma unroll
    for (int i = 0; i < dim / 32; ++i) {
      const float v = x[i] * up;
      const uint16_t piece = floatToHalf(v);
      tile[r * T::kStride + lane + 32 * i] = piece;
      if constexpr (pieces == 2) tile[T::kTile + r * T::kStride + lane + 32 * i] = floatToHalf(v - halfToFloat(piece));
    }
  }
}

using TileScores = float[kPrefillSlots / 8][4];  // [8 slots]: slots 2t, 2t + 1 of row g, and of row g + 8

template <int dim, int pieces>
__device__ inline void scoreTile(Pointer<uint16_t> q, Pointer<uint16_t> keys, int headDim, TileScores& s) {
  using T = PrefillTiles<dim, pieces>;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int c = 0; c < dim; c += 16) {
    if (c >= headDim) break;
    uint32_t a[pieces][4];
#pragma unroll
    for (int i = 0; i < pieces; ++i) loadMatrices(a[i], q + i * T::kTile + (warp * 16 + lane % 16) * T::kStride + c + lane / 16 * 8);
#pragma unroll
    for (int n = 0; n < kPrefillSlots / 16; ++n) {
      uint32_t b[4];
      loadMatrices(b, keys + (n * 16 + lane % 8 + lane / 16 * 8) * T::kStride + c + lane / 8 % 2 * 8);
      const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
      for (int i = pieces - 1; i >= 0; --i) {
        mmaHalf(s[2 * n], a[i], low);
        mmaHalf(s[2 * n + 1], a[i], high);
      }
    }
  }
}

// A pair of values as two halves; what is left of them goes to the next piece.
__device__ inline uint32_t takePiece(float& x, float& y) {
  const uint16_t low = floatToHalf(x), high = floatToHalf(y);
  x -= halfToFloat(low);
  y -= halfToFloat(high);
  return low | static_cast<uint32_t>(high) << 16;
}

template <int dim, int pieces>
__device__ inline void weighTile(TileScores& p, Pointer<uint16_t> values, int headDim, float (&out)[dim / 8][4]) {
  using T = PrefillTiles<dim, pieces>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < kPrefillSlots / 16; ++k) {
    uint32_t a[pieces][4];
#pragma unroll
    for (int i = 0; i < pieces; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) a[i][e] = takePiece(p[2 * k + e / 2][e % 2 * 2], p[2 * k + e / 2][e % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < dim / 16; ++n) {
      if (n * 16 >= headDim) break;
      uint32_t b[4];
      loadMatricesTransposed(b, values + (k * 16 + lane % 16) * T::kStride + n * 16 + lane / 16 * 8);
      const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
      for (int i = pieces - 1; i >= 0; --i) {
        mmaHalf(out[2 * n], a[i], low);
        mmaHalf(out[2 * n + 1], a[i], high);
      }
    }
  }
}

struct RowState {
  float largest[2], sum[2];
};

// Scores become weights relative to the largest so far, times 2^15; what was summed before is scaled to match.
template <int dim, class Slots>
__device__ inline void softmaxTile(const PrefillJob& job, const RowPlace& at, const Sight& sight, bool masked, const Slots& slots,
                                   const float (&factor)[2], TileScores& s, RowState& state, float (&out)[dim / 8][4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = state.largest[r];
#pragma unroll
    for (int n = 0; n < kPrefillSlots / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[n][2 * r + e];
        x *= factor[r];
        const int i = n * 8 + 2 * t + e;
        if (masked && !(slots.holds(i) && sees(job, at, sight, r, slots.slot(i)))) x = -INFINITY;
        largest = fmaxf(largest, x);
      }
    largest = warpMax<4>(largest);
    const float shrink = largest == state.largest[r] ? 1.0f : expf(state.largest[r] - largest);  // 0 at first
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kPrefillSlots / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[n][2 * r + e];
        x = x == -INFINITY ? 0.0f : expf(x - largest) * kWeightScale;
        sum += x;
      }
    state.sum[r] = fmaf(state.sum[r], shrink, warpSum<4>(sum));
    state.largest[r] = largest;
#pragma unroll
    for (int n = 0; n < dim / 8; ++n) out[n][2 * r] *= shrink, out[n][2 * r + 1] *= shrink;
  }
}

template <class Slots>
__device__ inline void takeReused(const PrefillJob& job, const RowPlace& at, const Sight& sight, int row, const Slots& slots, TileScores& p) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int n = 0; n < kPrefillSlots / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int r = e / 2, i = n * 8 + 2 * t + e % 2, slot = slots.slot(i), mine = row + 8 * r;
      p[n][e] = 0.0f;
      if (slot > sight.own[r] || !slots.holds(i) || !sees(job, at, sight, r, slot)) continue;
      const int own = at.headOf(job, mine), head = job.reuseHeads ? static_cast<int>(job.reuseHeads[own]) : own;
      p[n][e] = job.reuse[(static_cast<int64_t>(head) * job.queries + mine / job.group) * job.stride + slot] * kWeightScale;
    }
}

// The first tile in which any row of the block sees something: with a window, the first whose last position is young enough.
__device__ inline int firstTile(const PrefillJob& job, const RowPlace& at) {
  if (job.window <= 0) return 0;
  Pointer<const int32_t> positions = job.pages.positions + at.kvHead * job.pages.positionStride;
  const int own = at.own(job, at.firstRow), oldest = positions[own] - job.window;
  int low = 0, high = own / kPrefillSlots;  // this one is seen
  while (low < high) {
    const int middle = (low + high) / 2;
    if (positions[middle * kPrefillSlots + kPrefillSlots - 1] <= oldest)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

template <int dim>
__device__ inline void storeRows(const PrefillJob& job, const RowPlace& at, int row, const RowState& state, bool reuse,
                                 const float (&out)[dim / 8][4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int mine = row + 8 * r;
    if (mine >= at.rows) continue;
    const int query = mine / job.group, head = at.headOf(job, mine);
    const float factor = reuse ? 1.0f / kWeightScale : 1.0f / state.sum[r];
    const int64_t to = (static_cast<int64_t>(query) * job.heads + head) * job.headDim + 2 * t;
#pragma unroll
    for (int n = 0; n < dim / 8; ++n)
      if (n * 8 + 2 * t < job.headDim) store(job.out + to + n * 8, make_float2(out[n][2 * r] * factor, out[n][2 * r + 1] * factor));
    if (!job.states || t != 0) continue;
    const int64_t at2 = (static_cast<int64_t>(head) * job.queries + query) * 2;
    job.states[at2] = state.largest[r];
    job.states[at2 + 1] = state.sum[r] / kWeightScale;
  }
}

template <int dim, int pieces, bool reuse, bool listed>
__device__ inline void attendBlockOfRows(const PrefillJob& job) {
  using T = PrefillTiles<dim, pieces>;
  __shared__ SharedArray<float, kPrefillRows> factors;
  Pointer<uint16_t> shared = dynamicShared<uint16_t>(), keys = shared + T::kKeys, values = shared + T::kValues;
  RowPlace at;
  at.kvHead = static_cast<int>(blockIdx.y);
  at.firstRow = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kPrefillRows;
  at.rows = job.queries * job.group;
  at.tokens = job.pages.lengths[at.kvHead] + job.added;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int local = warp * 16 + lane / 4, row = at.firstRow + local;
  const int end = at.own(job, min(at.firstRow + kPrefillRows, at.rows) - 1) + 1, everyoneSees = at.own(job, at.firstRow) + 1;
  const Sight sight = sightOf(job, at, row);
  PieceList list{job.blocks, 0, job.before, end};
  if constexpr (listed) {
    list.blocks = job.blocks + static_cast<int64_t>(at.kvHead) * job.blockStride;
    list.count = job.counts[at.kvHead];
  }
  const auto slotsOf = [&](int tile) {
    if constexpr (listed)
      return list.tile(tile);
    else
      return NextSlots{tile * kPrefillSlots};
  };
  // Whether some row of the block does not see some slot of a tile.
  const auto partly = [&](const auto& slots) {
    if (job.window > 0) return true;
    if constexpr (listed) return max(slots.low, slots.high) + kCriticalSlots > min(job.before, everyoneSees);
    return slots.slot(0) + kPrefillSlots > everyoneSees;
  };
  const int first = listed ? 0 : firstTile(job, at), last = listed ? (list.pieces() + 1) / 2 : (end + kPrefillSlots - 1) / kPrefillSlots;
  float factor[2] = {}, out[dim / 8][4] = {};
  RowState state = {{-INFINITY, -INFINITY}, {0, 0}};
  if constexpr (!reuse) {
    queueTile<dim>(job, job.pages.keys, at, slotsOf(first), keys);
    commitCopies();
    takeQueries<dim, pieces>(job, at, shared, factors);
    __syncwarp();
    factor[0] = factors[local];
    factor[1] = factors[local + 8];
  }
  for (int tile = first; tile < last; ++tile) {
    const auto slots = slotsOf(tile);
    TileScores s = {};
    waitCopies<0>();
    __syncthreads();  // the keys are here, and all are done with the values before
    queueTile<dim>(job, job.pages.values, at, slots, values);
    commitCopies();
    if constexpr (reuse) {
      takeReused(job, at, sight, row, slots, s);
      waitCopies<0>();
    } else {
      scoreTile<dim, pieces>(shared, keys, job.headDim, s);
      __syncthreads();  // all are done with the keys
      if (tile + 1 < last) queueTile<dim>(job, job.pages.keys, at, slotsOf(tile + 1), keys);
      commitCopies();
      softmaxTile<dim>(job, at, sight, partly(slots), slots, factor, s, state, out);
      waitCopies<1>();
    }
    __syncthreads();  // the values are here
    weighTile<dim, pieces>(s, values, job.headDim, out);
  }
  storeRows<dim>(job, at, row, state, reuse, out);
}

// blockIdx.x: rows, the last first, as they have the most to do; blockIdx.y: kv head.
template <int dim, int pieces, bool reuse>
__global__ void __launch_bounds__(kPrefillThreads) attendRows(const __grid_constant__ PrefillJob job) {
  attendBlockOfRows<dim, pieces, reuse, false>(job);
}
// Two blocks to a multiprocessor leave it the registers that the list takes.
template <int dim, int pieces, bool reuse>
__global__ void __launch_bounds__(kPrefillThreads, 2) attendListed(const __grid_constant__ PrefillJob job) {
  attendBlockOfRows<dim, pieces, reuse, true>(job);
}

// Which halves of the tile at `begin` are listed, where blocks are; the segment's own slots always are.
struct ListedHalves {
  bool low = true, high = true;
  int before = 0;
  __device__ bool has(int i, int slot) const { return slot >= before || (i < kCriticalSlots ? low : high); }
};
__device__ inline ListedHalves listedHalves(const PrefillJob& job, int kvHead, int begin) {
  Pointer<const int32_t> taken = job.taken + static_cast<int64_t>(kvHead) * job.blockStride;
  ListedHalves halves;
  halves.before = job.before;
  if (begin < job.before) halves.low = taken[begin / kCriticalSlots] != 0;
  if (begin + kCriticalSlots < job.before) halves.high = taken[begin / kCriticalSlots + 1] != 0;
  return halves;
}

// Probabilities of the two rows of a lane for the tile at `begin`, from scores.
__device__ inline void probabilitiesOf(const PrefillJob& job, const RowPlace& at, int row, int begin, const ListedHalves& halves,
                                       const float (&factor)[2], TileScores& s) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const Sight sight = sightOf(job, at, row);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int mine = row + 8 * r;
    float largest = 0, share = 0;
    if (mine < at.rows) {
      const int64_t at2 = (static_cast<int64_t>(at.headOf(job, mine)) * job.queries + mine / job.group) * 2;
      largest = job.states[at2];
      share = 1.0f / job.states[at2 + 1];
    }
#pragma unroll
    for (int n = 0; n < kPrefillSlots / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[n][2 * r + e];
        const int i = n * 8 + 2 * t + e;
        x = halves.has(i, begin + i) && sees(job, at, sight, r, begin + i) ? expf(x * factor[r] - largest) * share : 0.0f;
      }
  }
}

__device__ inline void storeProbabilities(const PrefillJob& job, const RowPlace& at, int row, int begin, const TileScores& p) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int mine = row + 8 * r;
    if (mine >= at.rows) continue;
    const int64_t to = (static_cast<int64_t>(at.headOf(job, mine)) * job.queries + mine / job.group) * job.stride;
#pragma unroll
    for (int n = 0; n < kPrefillSlots / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int slot = begin + n * 8 + 2 * t + e;
        if (slot < job.stride) job.probabilities[to + slot] = p[n][2 * r + e];
      }
  }
}

// A warp's sums of 64 columns meet in the order of the warps.
__device__ inline void addColumns(const PrefillJob& job, const RowPlace& at, int begin, float (&columns)[kPrefillSlots / 8][2],
                                  SharedArray<float, kPrefillThreads / 32 * kPrefillSlots>& sums) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kPrefillSlots / 8; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float sum = columns[n][e];
#pragma unroll
      for (int d = 4; d < 32; d *= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
      if (lane < 4) sums[warp * kPrefillSlots + n * 8 + 2 * lane + e] = sum;
    }
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x), slot = begin + column;
  if (column >= kPrefillSlots || slot >= at.tokens) return;
  float sum = job.columnSums[at.kvHead * job.columnStride + slot];
  for (int w = 0; w < kPrefillThreads / 32; ++w) sum += sums[w * kPrefillSlots + column];
  job.columnSums[at.kvHead * job.columnStride + slot] = sum;
}

template <int dim, int pieces, bool listed>
__device__ inline void tapTile(const PrefillJob& job) {
  using T = PrefillTiles<dim, pieces>;
  __shared__ SharedArray<float, kPrefillRows> factors;
  __shared__ SharedArray<float, kPrefillThreads / 32 * kPrefillSlots> sums;
  Pointer<uint16_t> shared = dynamicShared<uint16_t>(), keys = shared + T::kKeys;
  RowPlace at;
  at.kvHead = static_cast<int>(blockIdx.y);
  at.rows = job.queries * job.group;
  at.tokens = job.pages.lengths[at.kvHead] + job.added;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, local = warp * 16 + lane / 4;
  const int begin = static_cast<int>(blockIdx.x) * kPrefillSlots;
  ListedHalves halves;
  if constexpr (listed) halves = listedHalves(job, at.kvHead, begin);
  float columns[kPrefillSlots / 8][2] = {};
  queueTile<dim>(job, job.pages.keys, at, NextSlots{begin}, keys);
  commitCopies();
  waitCopies<0>();
  __syncthreads();
  for (at.firstRow = 0; at.firstRow < at.rows; at.firstRow += kPrefillRows) {
    const int row = at.firstRow + local;
    TileScores p = {};
    if (at.own(job, min(at.firstRow + kPrefillRows, at.rows) - 1) >= begin) {
      __syncwarp();  // a warp reads its own rows of q alone
      takeQueries<dim, pieces>(job, at, shared, factors);
      __syncwarp();
      const float factor[2] = {factors[local], factors[local + 8]};
      scoreTile<dim, pieces>(shared, keys, job.headDim, p);
      probabilitiesOf(job, at, row, begin, halves, factor, p);
    }
    if (job.probabilities) storeProbabilities(job, at, row, begin, p);
#pragma unroll
    for (int n = 0; n < kPrefillSlots / 8; ++n) {
      columns[n][0] += p[n][0] + p[n][2];
      columns[n][1] += p[n][1] + p[n][3];
    }
  }
  if (job.columnSums) addColumns(job, at, begin, columns, sums);
}

// blockIdx.x: tile of slots; blockIdx.y: kv head.
template <int dim, int pieces>
__global__ void __launch_bounds__(kPrefillThreads) attendTaps(const __grid_constant__ PrefillJob job) {
  tapTile<dim, pieces, false>(job);
}
template <int dim, int pieces>
__global__ void __launch_bounds__(kPrefillThreads, 2) attendListedTaps(const __grid_constant__ PrefillJob job) {
  tapTile<dim, pieces, true>(job);
}

}  // namespace winnow::cuda
