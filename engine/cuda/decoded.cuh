// SPDX-License-Identifier: GPL-3.0-or-later
// What a library of 16-bit products needs: packed weights decoded to f16, a bias added afterwards.
#pragma once
#include "engine/cuda/matrix.cuh"

namespace winnow::cuda {

constexpr int kDecodeWarps = 8;

// A warp takes the 16 rows and 32 columns of a chunk; a lane half a row of it, 32 bytes in the end. Rows are a multiple of 8 values.
__global__ void __launch_bounds__(kDecodeWarps * 32) decodeTiles(const __grid_constant__ MatrixView w, int firstTile, int tiles,
                                                                 int lastRow, Pointer<uint16_t> out) {
  __shared__ SharedArray<float, 16> levels;  // in as many banks
  if (threadIdx.x < 16) levels[threadIdx.x] = w.levels[threadIdx.x];
  __syncthreads();
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kDecodeWarps + threadIdx.x / 32;
  if (item >= static_cast<int64_t>(tiles) * w.chunks) return;
  const int tile = firstTile + static_cast<int>(item / w.chunks), chunk = static_cast<int>(item % w.chunks);
  const int lane = static_cast<int>(threadIdx.x) % 32, r = lane / 2, row = tile * 16 + r;
  if (row >= lastRow) return;
  const ScaleMin s = scaleMinOf(w, tile, chunk, lane % 2, r);
  const auto half = [&](uint32_t code) { return static_cast<uint32_t>(floatToHalf(s.times(codeValue(w, code & 0xff, levels.pointer())))); };
  Pointer<const uint32_t> codes = w.codes + (static_cast<int64_t>(tile) * w.chunks + chunk) * 16 * w.bits;
  Pointer<uint16_t> to = out + static_cast<int64_t>(row - firstTile * 16) * w.cols;
#pragma unroll
  for (int part = 0; part < 2; ++part) {  // 8 values
    const int k = chunk * 32 + lane % 2 * 16 + part * 8;
    if (k >= w.cols) return;
    uint32_t halves[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t four = codesOf(codes, w.bits, lane % 2 * 4 + part * 2 + i / 2, r) >> (i % 2 * 16);
      halves[i] = half(four) | half(four >> 8) << 16;
    }
    store(to + k, make_uint4(halves[0], halves[1], halves[2], halves[3]));
  }
}

__global__ void addBias(Pointer<float> y, int64_t stride, Pointer<const float> bias, int rows) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= rows) return;
  const int64_t at = static_cast<int64_t>(blockIdx.y) * stride + row;
  y[at] = y[at] + bias[row];
}

}  // namespace winnow::cuda
