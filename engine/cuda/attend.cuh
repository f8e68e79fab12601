// SPDX-License-Identifier: GPL-3.0-or-later
// Attention of one query over paged keys and values (flash decoding). A block takes a chunk of kAttendChunk slots of one kv head and up
// to 4 of its query heads, which share every load of keys and values; the last block of a head's merges the chunks, in slot order.
// * A slot's row is read by `lanes` neighbouring lanes, `width` components (16 or 8 bytes) each; a warp reads 32 / lanes slots at once.
// * The grid covers a bound on the lengths: blocks past a head's own length leave at once, so a graph serves a range of lengths, and
//   the result depends on the length alone.
// * The tap is a template flag: weights already in shared memory are written out once more. A follower's weights come from its leader.
// * Where pages may be sealed, each is looked up once to a block, and its codes become values in registers; of pages in planes a block
//   reads the bits that its chunk needs (engine/cuda/aligned.cuh).
#pragma once
#include "engine/cuda/aligned.cuh"
#include "engine/cuda/arrive.cuh"
#include "engine/cuda/sealed_row.cuh"

namespace winnow::cuda {

constexpr int kAttendWarps = 4, kAttendHeads = 4, kAttendThreads = kAttendWarps * 32;

enum { kRows, kSealed, kAligned };  // what pages may be: f16 rows alone, sealed, in planes as well

struct AttendJob {
  Pages pages;
  PageLayout layout;
  Pointer<const PageForm> keyForms, valueForms;  // [kvHeads, pageStride]; where pages may be sealed
  Pointer<const float> q;          // [heads, headDim]
  Pointer<float> partial;          // [heads, chunks, headDim]
  Pointer<float> states;           // [heads, chunks, 2]: largest score, sum
  Pointer<float> out;              // [heads, headDim]
  Pointer<uint32_t> tickets;       // [kvHeads, blocks of a group]
  Pointer<float> probabilities;    // [heads, stride]
  Pointer<const float> reuse;      // [heads, stride]
  Pointer<const int32_t> reuseHeads;  // [heads] or null
  Pointer<int32_t> unread;         // [kvHeads, unreadStride] bytes of each chunk; where pages are aligned
  int aligned = 0, unreadStride = 0;  // aligned: binades
  int64_t stride = 0;
  int heads = 0, group = 0, headDim = 0, lanes = 0, added = 0, chunks = 0, window = 0;
  float scale = 0;
};

template <int width>
__device__ inline void loadHalves(Pointer<const uint16_t> p, float (&v)[width]) {
  uint32_t words[width / 2];
  if constexpr (width == 8) {
    const uint4 four = load<uint4>(p);
    words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
  } else {
    const uint2 two = load<uint2>(p);
    words[0] = two.x, words[1] = two.y;
  }
#pragma unroll
  for (int i = 0; i < width / 2; ++i) v[2 * i] = lowHalf(words[i]), v[2 * i + 1] = highHalf(words[i]);
}

struct AttendBlock {  // where a block stands
  int kvHead, chunk, firstHead, heads;  // heads: of this block
  int tokens, begin, count;
};

// The pages of a chunk, keys and then values.
constexpr int kLeastPage = 16, kChunkPages = kAttendChunk / kLeastPage;
struct ChunkPages {
  SharedArray<uint64_t, 2 * kChunkPages> addresses, ends;  // ends: of the sets, a byte each
  SharedArray<uint32_t, 2 * kChunkPages> forms;            // bits, sets << 8, outliers << 16, planes << 24
};
static_assert(kAttendChunk == kPlaneThreads && kAttendHeads == kPlaneHeads && kAttendThreads == kPlaneThreads);
struct ChunkBits {
  ChannelBits<kChunkPages, kMostHeadDim> keys;
  SlotBits values;
  ProbeScratch probes;
  SharedArray<int, 2 * kPlaneWarps> unread;  // bytes of keys, of values
};

__device__ inline void findPages(const AttendJob& job, const AttendBlock& b, ChunkPages& found) {
  const int i = static_cast<int>(threadIdx.x), page = i % kChunkPages;
  if (i >= 2 * kChunkPages || page * job.layout.tokens >= b.count) return;
  Pointer<const uint64_t> table = i < kChunkPages ? job.pages.keys : job.pages.values;
  if (!table) return;
  const int entry = b.kvHead * job.pages.pageStride + b.begin / job.layout.tokens + page;
  const PageForm form = (i < kChunkPages ? job.keyForms : job.valueForms)[entry];
  uint64_t ends = 0;
#pragma unroll
  for (int set = 0; set < kMostSets; ++set) ends |= static_cast<uint64_t>(form.ends[set]) << (8 * set);
  found.addresses[i] = table[entry];
  found.ends[i] = ends;
  found.forms[i] = form.bits | static_cast<uint32_t>(form.sets) << 8 | static_cast<uint32_t>(form.outliers) << 16 | static_cast<uint32_t>(form.planes) << 24;
}

// The bytes of a page of the chunk that lies in planes; null of any other.
__device__ inline Pointer<const uint8_t> planesAt(ChunkPages& found, bool key, int page) {
  const int at = (key ? 0 : kChunkPages) + page;
  if (found.forms[at] >> 24 == 0) return nullptr;
  return reinterpret_cast<const uint8_t*>(static_cast<uint64_t>(found.addresses[at]));
}

__device__ inline PlaneChunk planeChunk(const AttendJob& job, const AttendBlock& b) {
  return {(b.count + job.layout.tokens - 1) / job.layout.tokens, job.layout.tokens, b.count, job.headDim, job.aligned};
}

__device__ inline void needKeys(const AttendJob& job, const AttendBlock& b, ChunkPages& found, ChunkBits& bits) {
  const int unread = keyBits(planeChunk(job, b), job.q + b.kvHead * job.group * job.headDim, job.group, kMostHeadDim, bits.keys, [&](int page) { return planesAt(found, true, page); });
  if (threadIdx.x % 32 == 0) bits.unread[threadIdx.x / 32] = unread;
  __syncthreads();
}

__device__ inline void needValues(const AttendJob& job, const AttendBlock& b, ChunkPages& found, SharedArray<float, kAttendHeads * kAttendChunk>& weights, bool keysRead, ChunkBits& bits) {
  const auto pageOf = [&](int page) { return planesAt(found, false, page); };
  const auto highAt = [&](int slot, int c) {
    const int page = slot / job.layout.tokens, own = slot % job.layout.tokens;
    Pointer<const uint8_t> bytes = pageOf(page);
    if (bytes) return static_cast<int>(bytes[own * job.headDim + c]);
    Pointer<const uint16_t> rows = reinterpret_cast<const uint16_t*>(static_cast<uint64_t>(found.addresses[kChunkPages + page]));
    return rows[own * job.headDim + c] >> 8;
  };
  const int unread = slotBits(planeChunk(job, b), b.heads, weights, bits.probes, bits.values, highAt, pageOf);
  if (threadIdx.x % 32 == 0) bits.unread[kPlaneWarps + threadIdx.x / 32] = unread;
  __syncthreads();
  if (threadIdx.x != 0 || b.firstHead != b.kvHead * job.group || !job.unread) return;
  int sum = 0;
  for (int i = keysRead ? 0 : kPlaneWarps; i < 2 * kPlaneWarps; ++i) sum += bits.unread[i];
  job.unread[b.kvHead * job.unreadStride + b.chunk] = sum;
}

// Components c on of a slot of the chunk.
template <int width, int reads>
__device__ inline void loadSlot(const AttendJob& job, const AttendBlock& b, ChunkPages& found, ChunkBits& bits, bool key, int slot, int c, float (&v)[width]) {
  if constexpr (reads == kRows) {
    loadHalves(job.pages.slot<const uint16_t>(key ? job.pages.keys : job.pages.values, b.kvHead, b.begin + slot, job.headDim) + c, v);
  } else {
    const int at = (key ? 0 : kChunkPages) + slot / job.layout.tokens, own = slot % job.layout.tokens;
    const uint64_t address = found.addresses[at], ends = found.ends[at];
    const uint32_t form = found.forms[at];
    const SealedAs as{static_cast<int>(form & 0xff), static_cast<int>(form >> 8 & 0xff), static_cast<int>(reads == kAligned ? form >> 16 & 0xff : form >> 16)};
    PagePointers page{reinterpret_cast<const uint16_t*>(address), reinterpret_cast<const uint8_t*>(address), nullptr};
    if (as.outliers > 0) page.words = reinterpret_cast<const uint32_t*>(address);
    if constexpr (reads == kAligned) {
      if (form >> 24 != 0) {
        const int inChunk = slot / job.layout.tokens;
#pragma unroll
        for (int i = 0; i < width; ++i) {
          const int needed = key ? static_cast<int>(bits.keys[inChunk * kMostHeadDim + c + i]) : static_cast<int>(bits.values[slot]);
          v[i] = halfToFloat(planeAt(job.layout, page.bytes, key, own, c + i, needed));
        }
        return;
      }
    }
    if (as.bits == 16) return loadHalves(page.halves + own * job.headDim + c, v);
    int set = as.sets > 0 ? 0 : -1;
    if (set == 0)
      while (own >= static_cast<int>(ends >> (8 * set) & 0xff)) ++set;
    valuesAt(job.layout, sealedRow(job.layout, page, as, set, own), c, v);
  }
}

// Slots of the chunk that the query sees: the window looks at original positions.
__device__ inline bool seen(const AttendJob& job, const AttendBlock& b, int slot, int own) {
  return job.window <= 0 || job.pages.positions[b.kvHead * job.pages.positionStride + b.begin + slot] > own - job.window;
}
__device__ inline int ownPosition(const AttendJob& job, const AttendBlock& b) {
  return job.window <= 0 ? 0 : static_cast<int>(job.pages.positions[b.kvHead * job.pages.positionStride + b.tokens - 1]);
}

using ChunkWeights = SharedArray<float, kAttendHeads * kAttendChunk>;  // [head][slot]
using HeadSums = SharedArray<float, kAttendWarps * kAttendHeads * kMostHeadDim>;

template <int width, int reads>
__device__ inline void scoreSlots(const AttendJob& job, const AttendBlock& b, ChunkPages& found, ChunkBits& bits, ChunkWeights& weights) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int part = lane % job.lanes, c = part * width, slots = 32 / job.lanes, own = ownPosition(job, b);
  const bool active = c < job.headDim;
  float q[kAttendHeads][width] = {};
#pragma unroll
  for (int h = 0; h < kAttendHeads; ++h)
#pragma unroll
    for (int i = 0; i < width; ++i)
      if (active && h < b.heads) q[h][i] = job.q[(b.firstHead + h) * job.headDim + c + i];
#pragma unroll(reads == kAligned ? 1 : 2)
  for (int first = warp * slots; first < b.count; first += kAttendWarps * slots) {
    const int slot = first + lane / job.lanes;
    float k[width] = {};
    if (active && slot < b.count) loadSlot<width, reads>(job, b, found, bits, true, slot, c, k);
    float dot[kAttendHeads] = {};
#pragma unroll
    for (int h = 0; h < kAttendHeads; ++h)
#pragma unroll
      for (int i = 0; i < width; ++i) dot[h] = fmaf(q[h][i], k[i], dot[h]);
    for (int d = job.lanes / 2; d > 0; d /= 2)
#pragma unroll
      for (int h = 0; h < kAttendHeads; ++h) dot[h] += __shfl_xor_sync(kAllLanes, dot[h], d);
    if (part != 0 || slot >= b.count) continue;
    const bool visible = seen(job, b, slot, own);
#pragma unroll
    for (int h = 0; h < kAttendHeads; ++h) weights[h * kAttendChunk + slot] = visible ? dot[h] * job.scale : -INFINITY;
  }
}

// Warp h turns the scores of head h into exp(score - largest of the chunk).
template <bool tap>
__device__ inline void softmaxChunk(const AttendJob& job, const AttendBlock& b, ChunkWeights& weights) {
  const int h = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, head = b.firstHead + h;
  if (h >= b.heads) return;
  float x[kAttendChunk / 32], largest = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kAttendChunk / 32; ++i) {
    const int slot = i * 32 + lane;
    x[i] = slot < b.count ? static_cast<float>(weights[h * kAttendChunk + slot]) : -INFINITY;
    largest = fmaxf(largest, x[i]);
  }
  largest = warpMax(largest);
#pragma unroll
  for (int i = 0; i < kAttendChunk / 32; ++i) {
    const int slot = i * 32 + lane;
    x[i] = x[i] == -INFINITY ? 0.0f : expf(x[i] - largest);
    sum += x[i];
    if (slot >= b.count) continue;
    weights[h * kAttendChunk + slot] = x[i];
    if (tap) job.probabilities[head * job.stride + b.begin + slot] = x[i];
  }
  sum = warpSum(sum);
  if (lane != 0) return;
  const int at = (head * job.chunks + b.chunk) * 2;
  job.states[at] = largest;
  job.states[at + 1] = sum;
}

__device__ inline void takeWeights(const AttendJob& job, const AttendBlock& b, ChunkWeights& weights) {
  const int own = ownPosition(job, b);
  for (int i = static_cast<int>(threadIdx.x); i < b.heads * b.count; i += kAttendThreads) {
    const int h = i / b.count, slot = i % b.count;
    const int head = job.reuseHeads ? static_cast<int>(job.reuseHeads[b.firstHead + h]) : b.firstHead + h;
    weights[h * kAttendChunk + slot] = seen(job, b, slot, own) ? job.reuse[head * job.stride + b.begin + slot] : 0.0f;
  }
}

template <int width, int reads>
__device__ inline void weighValues(const AttendJob& job, const AttendBlock& b, ChunkPages& found, ChunkBits& bits, ChunkWeights& weights,
                                   HeadSums& sums) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int part = lane % job.lanes, c = part * width, slots = 32 / job.lanes;
  const bool active = c < job.headDim;
  float a[kAttendHeads][width] = {};
#pragma unroll(reads == kAligned ? 1 : 2)
  for (int first = warp * slots; first < b.count; first += kAttendWarps * slots) {
    const int slot = first + lane / job.lanes;
    if (!active || slot >= b.count) continue;
    float v[width];
    loadSlot<width, reads>(job, b, found, bits, false, slot, c, v);
#pragma unroll
    for (int h = 0; h < kAttendHeads; ++h) {
      if (h >= b.heads) break;
      const float p = weights[h * kAttendChunk + slot];
#pragma unroll
      for (int i = 0; i < width; ++i) a[h][i] = fmaf(p, v[i], a[h][i]);
    }
  }
#pragma unroll
  for (int h = 0; h < kAttendHeads; ++h)
#pragma unroll
    for (int i = 0; i < width; ++i) {
      for (int d = job.lanes; d < 32; d *= 2) a[h][i] += __shfl_xor_sync(kAllLanes, a[h][i], d);
      if (lane < job.lanes && active) sums[(warp * kAttendHeads + h) * kMostHeadDim + c + i] = a[h][i];
    }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < b.heads * job.headDim; i += kAttendThreads) {
    const int h = i / job.headDim, component = i % job.headDim;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kAttendWarps; ++w) sum += sums[(w * kAttendHeads + h) * kMostHeadDim + component];
    job.partial[(static_cast<int64_t>(b.firstHead + h) * job.chunks + b.chunk) * job.headDim + component] = sum;
  }
}

constexpr int kFactorsInSums = kAttendWarps * kMostHeadDim;  // chunks whose factors, of each head, find room where the sums were

// All chunks of the block's heads. With a tap, probabilities are brought to their final size and end in zeros.
template <bool tap, bool reuse>
__device__ inline void mergeChunks(const AttendJob& job, const AttendBlock& b, Pointer<float> factors) {
  __shared__ SharedArray<float, kAttendWarps> scratch, sums;
  const int chunks = (b.tokens + kAttendChunk - 1) / kAttendChunk, first = static_cast<int>(threadIdx.x);
  for (int h = 0; h < b.heads && !reuse; ++h) {
    Pointer<float> states = job.states + static_cast<int64_t>(b.firstHead + h) * job.chunks * 2, own = factors + h * chunks;
    float largest = -INFINITY, sum = 0;
    for (int c = first; c < chunks; c += kAttendThreads) largest = fmaxf(largest, states[2 * c]);
    largest = blockMax<kAttendWarps>(largest, scratch);
    for (int c = first; c < chunks; c += kAttendThreads) {
      const float top = states[2 * c], factor = top == -INFINITY ? 0.0f : expf(top - largest);
      own[c] = factor;
      sum = fmaf(states[2 * c + 1], factor, sum);
    }
    sum = blockSum<kAttendWarps>(sum, sums);
    for (int c = first; c < chunks; c += kAttendThreads) own[c] = own[c] / sum;
  }
  __syncthreads();
  for (int c = first; c < job.headDim; c += kAttendThreads) {
    float y[kAttendHeads] = {};
#pragma unroll 2
    for (int i = 0; i < chunks; ++i)
#pragma unroll
      for (int h = 0; h < kAttendHeads; ++h) {
        if (h >= b.heads) break;
        const float part = job.partial[(static_cast<int64_t>(b.firstHead + h) * job.chunks + i) * job.headDim + c];
        y[h] = reuse ? y[h] + part : fmaf(part, factors[h * chunks + i], y[h]);
      }
#pragma unroll
    for (int h = 0; h < kAttendHeads; ++h)
      if (h < b.heads) job.out[(b.firstHead + h) * job.headDim + c] = y[h];
  }
  for (int h = 0; h < b.heads && tap; ++h) {
    Pointer<float> p = job.probabilities + (b.firstHead + h) * job.stride;
    for (int64_t s = first; s < job.stride; s += kAttendThreads) p[s] = s < b.tokens ? p[s] * factors[h * chunks + s / kAttendChunk] : 0.0f;
  }
}

template <int width, bool tap, bool reuse, int reads>
__device__ inline void attendSlots(const AttendJob& job, const AttendBlock& b, HeadSums& sums) {
  __shared__ ChunkWeights weights;
  __shared__ ChunkPages found;
  __shared__ ChunkBits bits;
  if constexpr (reads != kRows) {
    findPages(job, b, found);
    __syncthreads();
  }
  if constexpr (reuse) {
    takeWeights(job, b, weights);
  } else {
    if constexpr (reads == kAligned) needKeys(job, b, found, bits);
    scoreSlots<width, reads>(job, b, found, bits, weights);
    __syncthreads();
    softmaxChunk<tap>(job, b, weights);
  }
  __syncthreads();
  if constexpr (reads == kAligned) needValues(job, b, found, weights, !reuse, bits);
  weighValues<width, reads>(job, b, found, bits, weights, sums);
}

template <int width, bool tap, bool reuse, int reads>
__global__ void __launch_bounds__(kAttendThreads, reads == kRows ? 0 : 4) attendChunk(const __grid_constant__ AttendJob job) {
  __shared__ HeadSums sums;
  __shared__ SharedArray<uint32_t, 1> last;
  AttendBlock b;
  b.chunk = static_cast<int>(blockIdx.x);
  b.kvHead = static_cast<int>(blockIdx.y);
  const int inGroup = static_cast<int>(blockIdx.z) * kAttendHeads;
  b.firstHead = b.kvHead * job.group + inGroup;
  b.heads = min(kAttendHeads, job.group - inGroup);
  b.tokens = job.pages.lengths[b.kvHead] + job.added;
  b.begin = b.chunk * kAttendChunk;
  b.count = min(kAttendChunk, b.tokens - b.begin);
  if (b.count <= 0 && b.chunk > 0) return;
  if (b.count > 0) attendSlots<width, tap, reuse, reads>(job, b, sums);
  const auto chunks = static_cast<uint32_t>((b.tokens + kAttendChunk - 1) / kAttendChunk);  // of a head without slots: none, and zeros come out
  if (!arrivesLast(job.tickets + static_cast<int>(blockIdx.y * gridDim.z + blockIdx.z), chunks, last)) return;
  mergeChunks<tap, reuse>(job, b, job.chunks <= kFactorsInSums ? sums.pointer() : dynamicShared<float>());
}

// Sums over the heads of a group, in their order.
__global__ void addColumnSums(Pointer<const float> probabilities, int64_t stride, Pages pages, int added, int group, Pointer<float> sums,
                              int64_t columnStride) {
  const int kvHead = static_cast<int>(blockIdx.y), s = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (s >= pages.lengths[kvHead] + added) return;
  float sum = sums[kvHead * columnStride + s];
  for (int h = kvHead * group; h < (kvHead + 1) * group; ++h) sum += probabilities[h * stride + s];
  sums[kvHead * columnStride + s] = sum;
}

}  // namespace winnow::cuda
