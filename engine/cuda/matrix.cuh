// SPDX-License-Identifier: GPL-3.0-or-later
// Weights as kernels see them. The packed layout is that of engine/weights/matrix.h, byte by byte: what the CPU packs is copied as it is.
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

struct MatrixView {
  int storage = 0, bits = 0, rows = 0, cols = 0, chunks = 0, groups = 0, groupChunks = 0;
  int scaleGroups = 0, scaleChunks = 0;  // as groups, unless there are super-blocks
  int offset = 0;                        // what a code is larger by, symmetric
  Pointer<const float> f32;
  Pointer<const uint16_t> half;      // f16 and bf16
  Pointer<const uint32_t> codes;     // [tile][chunk][16 bits] words
  Pointer<const uint16_t> scales, mins;  // [tile][scale group][16]
  Pointer<const uint16_t> steps;         // [tile][group][16]: pairs of bytes, of 16 scales and then of 16 minimums; or null
};

inline MatrixView viewOf(const MatrixArgs& m) {
  CHECK(m.format.super == 0 || m.steps, m.format.describe());
  MatrixView v;
  v.storage = static_cast<int>(m.format.storage);
  v.bits = m.format.bits;
  v.rows = m.rows;
  v.cols = m.cols;
  v.chunks = WeightFormat::chunks(m.cols);
  v.groups = m.format.groups(m.cols);
  v.groupChunks = m.format.group == 0 ? v.chunks : m.format.group / WeightFormat::kChunk;
  v.scaleGroups = m.format.scaleGroups(m.cols);
  v.scaleChunks = m.format.super == 0 ? v.groupChunks : m.format.super / WeightFormat::kChunk;
  if (m.format.storage == Storage::f32) v.f32 = static_cast<const float*>(m.data);
  if (m.format.storage == Storage::f16 || m.format.storage == Storage::bf16) v.half = static_cast<const uint16_t*>(m.data);
  if (m.format.storage == Storage::packed) {
    v.codes = static_cast<const uint32_t*>(m.data);
    v.scales = m.scales;
    v.mins = m.mins;
    v.steps = reinterpret_cast<const uint16_t*>(m.steps);
    v.offset = m.mins ? 0 : 1 << (v.bits - 1);
  }
  return v;
}

// Where the 16 scales (and minimums) of a chunk of a tile begin; and, in pairs of bytes, their multiples.
__device__ inline int64_t scaleAt(const MatrixView& w, int tile, int chunk) {
  return (static_cast<int64_t>(tile) * w.scaleGroups + chunk / w.scaleChunks) * 16;
}
__device__ inline int64_t stepAt(const MatrixView& w, int tile, int chunk) {
  return (static_cast<int64_t>(tile) * w.groups + chunk / w.groupChunks) * 16;
}

// A plane of `width` bits at `base` holds dword d of row r (values 4d .. 4d + 3 of the chunk) at word d % width, shifted by d - d % width.
__device__ inline uint32_t planeCodes(Pointer<const uint32_t> base, int width, int d, int r) {
  const uint32_t mask = 0x01010101u * ((1u << width) - 1);
  return base[(d % width) * 16 + r] >> (d - d % width) & mask;
}
__device__ inline uint32_t codesOf(Pointer<const uint32_t> chunk, int bits, int d, int r) {
  switch (bits) {
    case 8: return chunk[d * 16 + r];
    case 6: return planeCodes(chunk, 4, d, r) | planeCodes(chunk + 64, 2, d, r) << 4;
    case 5: return planeCodes(chunk, 4, d, r) | planeCodes(chunk + 64, 1, d, r) << 4;
    case 4: return planeCodes(chunk, 4, d, r);
    case 3: return planeCodes(chunk, 2, d, r) | planeCodes(chunk + 32, 1, d, r) << 2;
    default: return planeCodes(chunk, 2, d, r);
  }
}

struct ScaleMin {
  float scale = 0, least = 0;
  bool asymmetric = false;
  // The f32 value of a code, as the CPU has it.
  __device__ float value(uint32_t code, int offset) const {
    const float c = static_cast<float>(code);
    return asymmetric ? scale * c + least : scale * (c - static_cast<float>(offset));
  }
};
__device__ inline ScaleMin scaleMinOf(const MatrixView& m, int tile, int chunk, int r) {
  const int64_t at = scaleAt(m, tile, chunk) + r;
  ScaleMin s;
  s.scale = halfToFloat(m.scales[at]);
  s.asymmetric = static_cast<bool>(m.mins);
  if (s.asymmetric) s.least = halfToFloat(m.mins[at]);
  if (!m.steps) return s;
  const int64_t step = stepAt(m, tile, chunk) + r / 2;
  s.scale *= static_cast<float>(m.steps[step] >> (8 * (r % 2)) & 0xff);
  s.least *= static_cast<float>(m.steps[step + 8] >> (8 * (r % 2)) & 0xff);
  return s;
}

// One weight, any storage: for rows that are looked up, not multiplied.
__device__ inline float weightAt(const MatrixView& m, int row, int k) {
  const int64_t at = static_cast<int64_t>(row) * m.cols + k;
  if (m.storage == static_cast<int>(Storage::f32)) return m.f32[at];
  if (m.storage == static_cast<int>(Storage::f16)) return halfToFloat(m.half[at]);
  if (m.storage == static_cast<int>(Storage::bf16)) return bf16ToFloat(m.half[at]);
  const int tile = row / 16, r = row % 16, chunk = k / 32;
  const uint32_t codes = codesOf(m.codes + (static_cast<int64_t>(tile) * m.chunks + chunk) * 16 * m.bits, m.bits, k % 32 / 4, r);
  return scaleMinOf(m, tile, chunk, r).value(codes >> (8 * (k % 4)) & 0xff, m.offset);
}

}  // namespace winnow::cuda
