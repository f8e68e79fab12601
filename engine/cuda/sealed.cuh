// SPDX-License-Identifier: GPL-3.0-or-later
// Sealed pages on the device, the very bytes of engine/cache/seal.cpp: extremes are found in the order of the CPU, since they decide the
// sign of a zero.
#pragma once
#include "engine/cache/outliers.h"
#include "engine/cuda/hadamard.cuh"
#include "engine/cuda/sealed.h"
#include "engine/cuda/sealed_row.cuh"

namespace winnow::cuda {

constexpr int kPageThreads = 256, kUnpackThreads = 128;

struct PageJob {
  PageLayout page;
  Pointer<const uint64_t> keys, values;
  Pointer<const PageForm> keyForms, valueForms;
  Pointer<const int32_t> slots;
  Pointer<const PageTask> tasks;
  float hadamard = 0;  // 1 / sqrt(headDim), or 0: no rotation
};

__device__ inline SlotRow sourceOf(const PageJob& job, const PageTask& task, int i) {
  const int slot = job.slots[task.firstSlot + i], entry = task.firstEntry + slot / job.page.tokens;
  const PageForm form = task.keys ? job.keyForms[entry] : job.valueForms[entry];
  return slotRow(job.page, task.keys ? job.keys : job.values, form, entry, slot % job.page.tokens);
}

// Rows f16 of a page, a warp to a row.
__global__ void __launch_bounds__(kPageThreads) openSlots(const __grid_constant__ PageJob job) {
  __shared__ SharedArray<float, kPageThreads / 32 * kMostHeadDim> rows;
  const PageTask task = job.tasks[blockIdx.x];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, n = job.page.headDim;
  Pointer<uint16_t> page = reinterpret_cast<uint16_t*>(task.to);
  Pointer<float> head = rows.pointer() + warp * kMostHeadDim;
  for (int i = warp; i < task.count; i += kPageThreads / 32) {
    const SlotRow row = sourceOf(job, task, i);
    Pointer<uint16_t> to = page + i * n;
    if (job.hadamard == 0) {
      for (int c = lane; c < n; c += 32) to[c] = valueAt(job.page, row, c);
      continue;
    }
    for (int c = lane; c < n; c += 32) head[c] = halfToFloat(valueAt(job.page, row, c));
    __syncwarp();
    turnHadamard(head, n, job.hadamard, lane);
    for (int c = lane; c < n; c += 32) to[c] = floatToHalf(head[c]);
    __syncwarp();
  }
}

__device__ inline float topOf(int bits) { return static_cast<float>((1 << bits) - 1); }

// Codes of a group: value = code * scale + min.
__device__ inline void storeGrid(float low, float high, int bits, Pointer<uint16_t> scale, Pointer<uint16_t> min) {
  if (low > high) low = high = 0;  // all are outliers
  scale[0] = floatToHalf((high - low) / topOf(bits));
  min[0] = floatToHalf(low);  // exact: rows are f16
}
__device__ inline int codeOf(float value, float scale, float min, int bits) {
  const float steps = (value - min) / scale;
  if (!(steps > 0)) return 0;  // a constant group as well
  return static_cast<int>(rintf(fminf(steps, topOf(bits))));
}

__device__ inline bool keepsCodes(const PageTask& task, const SlotRow& row) {
  return task.form.sets == 0 && row.bits == task.form.bits && !row.perChannel && row.outliers == task.form.outliers;
}

// The outliers of a page to make.
struct KeptRows {
  Pointer<uint32_t> words;  // [tokens][each]
  int each = 0;
  __device__ bool has(int slot, int c, int picked) const {
    for (int i = slot * each; i < slot * each + picked; ++i)
      if (static_cast<int>(words[i] >> 16) == c) return true;
    return false;
  }
  __device__ bool has(int slot, int c) const { return has(slot, c, each); }
};
__device__ inline KeptRows keptRows(const PageJob& job, const PageTask& task) {
  KeptRows out;
  out.each = task.form.outliers;
  out.words = reinterpret_cast<uint32_t*>(task.to);
  out.words += keptAt(job.page, task.form.bits, task.form.sets) / 2;
  return out;
}

// A thread to a row.
__device__ inline void pickPerToken(const PageJob& job, const PageTask& task, const KeptRows& rows) {
  const int n = job.page.headDim, group = job.page.group, slot = static_cast<int>(threadIdx.x);
  if (slot >= job.page.tokens) return;
  const SlotRow row = sourceOf(job, task, slot);
  const bool keeps = keepsCodes(task, row);
  for (int i = 0; i < rows.each; ++i) {
    OutlierChoice best;
    for (int begin = 0; begin < n && !keeps; begin += group) {
      RangeEnds ends;
      for (int c = begin; c < begin + group; ++c) {
        if (rows.has(slot, c, i)) continue;
        best.fallBack(c);
        ends.add(halfToFloat(valueAt(job.page, row, c)), c);
      }
      best.offer(ends.lowAt, ends.withoutLow());
      best.offer(ends.highAt, ends.withoutHigh());
    }
    rows.words[slot * rows.each + i] = keeps ? row.kept[i] : outlierWord(valueAt(job.page, row, best.at), best.at);
  }
}

struct ChannelEnds {  // of the channels of a set
  SharedArray<float, kMostHeadDim> withoutLow, withoutHigh;
  SharedArray<int, kMostHeadDim> lowAt, highAt;  // slots
};

// The slots of a set from `first` to before `end`, each one value and then another: a thread to a channel, then one to a slot.
__device__ inline void pickFromSet(const PageJob& job, const PageTask& task, const KeptRows& rows, int first, int end, ChannelEnds& found) {
  const int n = job.page.headDim, c = static_cast<int>(threadIdx.x), slot = first + c;
  for (int i = 0; i < rows.each; ++i) {
    if (c < n) {
      RangeEnds ends;
      for (int s = first; s < end; ++s)
        if (!rows.has(s, c, i)) ends.add(halfToFloat(valueAt(job.page, sourceOf(job, task, s), c)), s);
      found.withoutLow[c] = ends.withoutLow();
      found.withoutHigh[c] = ends.withoutHigh();
      found.lowAt[c] = ends.lowAt;
      found.highAt[c] = ends.highAt;
    }
    __syncthreads();
    if (slot < end) {
      OutlierChoice best;
      for (int at = 0; at < n; ++at) {
        if (rows.has(slot, at, i)) continue;
        best.fallBack(at);
        if (found.lowAt[at] == slot) best.offer(at, found.withoutLow[at]);
        if (found.highAt[at] == slot) best.offer(at, found.withoutHigh[at]);
      }
      rows.words[slot * rows.each + i] = outlierWord(valueAt(job.page, sourceOf(job, task, slot), best.at), best.at);
    }
    __syncthreads();
  }
}

__device__ inline void pickPerChannel(const PageJob& job, const PageTask& task, const KeptRows& rows) {
  __shared__ ChannelEnds found;
  for (int set = 0, first = 0; set < task.form.sets; first = task.form.ends[set++]) {
    const int end = task.form.ends[set], slot = first + static_cast<int>(threadIdx.x);
    if (task.from[set] < 0) {
      pickFromSet(job, task, rows, first, end, found);
      continue;
    }
    if (slot >= end) continue;
    const SlotRow row = sourceOf(job, task, slot);
    for (int i = 0; i < rows.each; ++i) rows.words[slot * rows.each + i] = row.kept[i];
  }
}

// One scale to a group of a row.
__device__ inline void scalesPerToken(const PageJob& job, const PageTask& task, const KeptRows& rows, Pointer<uint16_t> scales) {
  const int groups = job.page.groups, group = job.page.group;
  for (int i = static_cast<int>(threadIdx.x); i < job.page.tokens * groups; i += kPageThreads) {
    const int g = i % groups;
    const SlotRow row = sourceOf(job, task, i / groups);
    if (keepsCodes(task, row)) {
      scales[2 * i] = row.scales[2 * g];
      scales[2 * i + 1] = row.scales[2 * g + 1];
      continue;
    }
    float low = INFINITY, high = -INFINITY;
    for (int c = g * group; c < (g + 1) * group; ++c) {
      if (rows.has(i / groups, c)) continue;
      const float x = halfToFloat(valueAt(job.page, row, c));
      if (x < low) low = x;
      if (!(x < high)) high = x;  // the last of the largest
    }
    storeGrid(low, high, task.form.bits, scales + 2 * i, scales + 2 * i + 1);
  }
}

// One scale to a channel of each set.
__device__ inline void scalesPerChannel(const PageJob& job, const PageTask& task, const KeptRows& rows, Pointer<uint16_t> scales) {
  const int n = job.page.headDim;
  for (int i = static_cast<int>(threadIdx.x); i < task.form.sets * n; i += kPageThreads) {
    const int set = i / n, c = i % n, first = set > 0 ? task.form.ends[set - 1] : 0;
    Pointer<uint16_t> scale = scales + set * 2 * n + c, min = scale + n;
    if (task.from[set] >= 0) {
      const SlotRow row = sourceOf(job, task, first);
      scale[0] = row.scales[c];
      min[0] = row.scales[n + c];
      continue;
    }
    float low = INFINITY, high = -INFINITY;
    for (int s = first; s < task.form.ends[set]; ++s) {
      if (rows.has(s, c)) continue;
      const float x = halfToFloat(valueAt(job.page, sourceOf(job, task, s), c));
      if (x < low) low = x;
      if (high < x) high = x;  // the first of the largest
    }
    storeGrid(low, high, task.form.bits, scale, min);
  }
}

// Byte b of a group of codes: engine/cache/codes.h read backwards.
template <class Code>
__device__ inline int byteOf(int bits, int values, int b, Code code) {
  if (bits == 8) return code(b);
  const int low = bits == 3 ? 2 : bits, step = values * low / 8;
  int byte = 0;
  if (b < step)
    for (int i = 0; i < 8 / low; ++i) byte |= (code(b + i * step) & ((1 << low) - 1)) << (i * low);
  else
    for (int i = 0; i < 8; ++i) byte |= (code((b - step) * 8 + i) >> 2) << i;
  return byte;
}

__device__ inline int codeByte(const PageJob& job, const PageTask& task, Pointer<uint16_t> scales, int at) {
  const int bits = task.form.bits, rowBytes = job.page.rowBytes(bits), groupBytes = job.page.group * bits / 8, n = job.page.headDim;
  const int slot = at / rowBytes, inRow = at % rowBytes, g = inRow / groupBytes;
  const SlotRow row = sourceOf(job, task, slot);
  int set = 0;
  if (task.form.sets > 0)
    while (slot >= task.form.ends[set]) ++set;
  if (task.form.sets > 0 ? task.from[set] >= 0 : keepsCodes(task, row)) return row.codes[inRow];
  return byteOf(bits, job.page.group, inRow % groupBytes, [&](int i) {
    const int c = g * job.page.group + i, from = task.form.sets > 0 ? set * 2 * n + c : 2 * (slot * job.page.groups + g);
    const float scale = halfToFloat(scales[from]), min = halfToFloat(scales[task.form.sets > 0 ? from + n : from + 1]);
    return codeOf(halfToFloat(valueAt(job.page, row, c)), scale, min, bits);
  });
}

// Byte b of a page in planes.
__device__ inline int planeByte(const PageJob& job, const PageTask& task, const PlaneRuns& at, int b) {
  const auto value = [&](int run, int i) {
    const bool byChannel = task.form.planes == Planes::byChannel;
    return static_cast<int>(valueAt(job.page, sourceOf(job, task, byChannel ? i : run), byChannel ? run : i));
  };
  if (b < at.values()) return value(b / at.along, b % at.along) >> 8;
  if (b < at.largest()) {
    const int half = at.along / 2, nibble = (b - at.values()) % (at.values() / 2), shift = b < at.nibbles(0, true) ? 4 : 0;
    return (value(nibble / half, nibble % half) >> shift & 15) | (value(nibble / half, nibble % half + half) >> shift & 15) << 4;
  }
  int largest = 1;
  for (int slot = 0; slot < job.page.tokens; ++slot)
    largest = max(largest, exponentOfHalf(valueAt(job.page, sourceOf(job, task, slot), b - at.largest())));
  return largest;
}

__device__ inline void splitSlots(const PageJob& job, const PageTask& task) {
  const PlaneRuns at(job.page.tokens, job.page.headDim, task.form.planes == Planes::byChannel);
  Pointer<uint16_t> out = reinterpret_cast<uint16_t*>(task.to);
  for (int w = static_cast<int>(threadIdx.x); w < (at.largest() + job.page.headDim) / 2; w += kPageThreads)
    out[w] = static_cast<uint16_t>(planeByte(job, task, at, 2 * w) | planeByte(job, task, at, 2 * w + 1) << 8);
}

// A block to a page: planes, or the outliers, the scales of the rest, then the codes, two bytes at a time.
__global__ void __launch_bounds__(kPageThreads) sealSlots(const __grid_constant__ PageJob job) {
  const PageTask task = job.tasks[blockIdx.x];
  if (task.form.bits == 16) return splitSlots(job, task);
  const int words = job.page.tokens * job.page.rowBytes(task.form.bits) / 2;
  Pointer<uint16_t> codes = reinterpret_cast<uint16_t*>(task.to), scales = codes + words;
  const KeptRows rows = keptRows(job, task);
  if (rows.each > 0) {
    if (task.form.sets > 0)
      pickPerChannel(job, task, rows);
    else
      pickPerToken(job, task, rows);
    __syncthreads();
  }
  if (task.form.sets > 0)
    scalesPerChannel(job, task, rows, scales);
  else
    scalesPerToken(job, task, rows, scales);
  __syncthreads();
  for (int w = static_cast<int>(threadIdx.x); w < words; w += kPageThreads)
    codes[w] = static_cast<uint16_t>(codeByte(job, task, scales, 2 * w) | codeByte(job, task, scales, 2 * w + 1) << 8);
}

// --- for attention -------------------------------------------------------------------------------------------------------

struct UnpackJob {
  PageLayout page;
  Pointer<const uint64_t> keys, values;
  Pointer<const PageForm> keyForms, valueForms;
  Pointer<const int32_t> lengths;
  Pointer<uint32_t> rows;    // [2, kvHeads, pages, pageTokens, headDim / 2]
  Pointer<uint64_t> tables;  // [2, kvHeads, pages]
  uint64_t address = 0;      // of rows
  int pageStride = 0, pages = 0, kvHeads = 0, added = 0;
};

// blockIdx.x: page; blockIdx.y: kv head; blockIdx.z: 0 keys, 1 values.
__global__ void __launch_bounds__(kUnpackThreads) unpackSlots(const __grid_constant__ UnpackJob job) {
  const int page = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), side = static_cast<int>(blockIdx.z);
  Pointer<const uint64_t> table = side == 0 ? job.keys : job.values;
  if (!table || page * job.page.tokens >= job.lengths[head] + job.added) return;
  const int entry = head * job.pageStride + page, to = (side * job.kvHeads + head) * job.pages + page;
  const int half = job.page.headDim / 2, words = job.page.tokens * half;
  const PageForm form = side == 0 ? job.keyForms[entry] : job.valueForms[entry];
  const bool sealed = isSealed(form);
  if (threadIdx.x == 0) job.tables[to] = sealed ? job.address + static_cast<uint64_t>(to) * static_cast<uint64_t>(words) * 4 : table[entry];
  if (!sealed) return;
  Pointer<uint32_t> rows = job.rows + static_cast<int64_t>(to) * words;
  for (int w = static_cast<int>(threadIdx.x); w < words; w += kUnpackThreads) {
    const SlotRow row = slotRow(job.page, table, form, entry, w / half);
    const int c = w % half * 2;
    rows[w] = valueAt(job.page, row, c) | static_cast<uint32_t>(valueAt(job.page, row, c + 1)) << 16;
  }
}

}  // namespace winnow::cuda
