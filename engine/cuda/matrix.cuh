// SPDX-License-Identifier: GPL-3.0-or-later
// Weights as kernels see them. The packed layout is that of engine/weights/matrix.h, byte by byte: what the CPU packs is copied as it is.
#pragma once
#include <algorithm>

#include "engine/cuda/coding.h"
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"
#include "engine/quantize/code_format.h"

namespace winnow::cuda {

struct MatrixView {
  int storage = 0, bits = 0, rows = 0, cols = 0, chunks = 0, groups = 0, groupChunks = 0;
  int scaleGroups = 0, scaleChunks = 0;  // as groups, unless there are super-blocks
  int offset = 0;                        // what a code is larger by, symmetric integers
  int stepPairs = 16;                    // of a group
  Coding coding = Coding::integers;
  Pointer<const float> f32;
  Pointer<const uint16_t> half;      // f16 and bf16
  Pointer<const uint32_t> codes;     // [tile][chunk][16 bits] words
  Pointer<const uint16_t> scales, mins;  // [tile][scale group][16]
  // [tile][group][16] pairs of bytes, of 16 scales and then of 16 minimums, or of 16 scales of each half; exponents: [tile][group][8]; or null
  Pointer<const uint16_t> steps;
  float levels[16] = {};  // 4-bit codes that are no integers: what they stand for
  float levelUnit = 1;    // int8: a level is about so many times an integer
};

inline MatrixView viewOf(const MatrixArgs& m) {
  CHECK(m.format.stepsPerGroup() == 0 || m.steps, m.format.describe());
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
    v.coding = codingOf(m.format);
    if (m.format.code == Code::integer && !m.mins) v.offset = 1 << (v.bits - 1);
    if (v.coding == Coding::e2m1) v.stepPairs = 8;
    if (v.coding == Coding::halves) {  // the steps of a chunk's halves lie as a scale's and a minimum's would
      CHECK(m.format.group == WeightFormat::kChunk / 2 && m.cols % WeightFormat::kChunk == 0, m.format.describe(), m.cols);
      v.groups = v.chunks;
      v.groupChunks = 1;
    }
    if (const CodeFormat* codes = findCodeFormat(m.format.code); codes && codes->bits == 4) {
      std::copy(codes->values.begin(), codes->values.end(), v.levels);
      v.levelUnit = codes->unit8;
    }
  }
  return v;
}

// Where the 16 scales (and minimums) of a chunk of a tile begin; and, in pairs of bytes, their multiples or exponents.
__device__ inline int64_t scaleAt(const MatrixView& w, int tile, int chunk) {
  return (static_cast<int64_t>(tile) * w.scaleGroups + chunk / w.scaleChunks) * 16;
}
__device__ inline int64_t stepAt(const MatrixView& w, int tile, int chunk) {
  return (static_cast<int64_t>(tile) * w.groups + chunk / w.groupChunks) * w.stepPairs;
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

__device__ inline float powerOfTwo(uint32_t exponent) { return __uint_as_float(exponent == 0 ? 0x400000u : exponent << 23); }
// A float of 8 bits; exact, subnormals included.
template <int exponentBits>
__device__ inline float smallFloat(uint32_t code) {
  return __uint_as_float((code & 0x80) << 24 | (code & 0x7f) << (16 + exponentBits)) * (exponentBits == 4 ? 0x1p120f : 0x1p112f);
}
// A code without its scale. levels: those of the matrix, where they are read best.
template <class Levels>
__device__ inline float codeValue(const MatrixView& m, uint32_t code, const Levels& levels) {
  if (m.coding == Coding::nf4 || m.coding == Coding::e2m1) return levels[code];
  if (m.coding == Coding::e4m3) return smallFloat<4>(code);
  if (m.coding == Coding::e5m2) return smallFloat<5>(code);
  return static_cast<float>(code) - static_cast<float>(m.offset);
}

struct ScaleMin {
  float scale = 0, least = 0;
  bool adds = false;  // the least: else a zero keeps its sign
  // The f32 value of a weight, as the CPU has it.
  __device__ float times(float code) const { return adds ? scale * code + least : scale * code; }
};
// Of a half of a chunk.
__device__ inline ScaleMin scaleMinOf(const MatrixView& m, int tile, int chunk, int half, int r) {
  const auto step = [&](int pairs) { return static_cast<uint32_t>(m.steps[stepAt(m, tile, chunk) + pairs + r / 2] >> (8 * (r % 2)) & 0xff); };
  ScaleMin s;
  if (m.coding == Coding::e2m1) {
    s.scale = powerOfTwo(step(0));
    return s;
  }
  const int64_t at = scaleAt(m, tile, chunk) + r;
  s.scale = halfToFloat(m.scales[at]);
  if (m.mins) s.least = halfToFloat(m.mins[at]);
  s.adds = m.mins || m.coding == Coding::halves;  // whose scales may be negative
  if (m.coding == Coding::halves) s.scale *= static_cast<float>(step(8 * half)) - 128.0f;
  if (m.coding == Coding::super) {
    s.scale *= static_cast<float>(step(0));
    s.least *= static_cast<float>(step(8));
  }
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
  return scaleMinOf(m, tile, chunk, k % 32 / 16, r).times(codeValue(m, codes >> (8 * (k % 4)) & 0xff, m.levels));
}

}  // namespace winnow::cuda
