// SPDX-License-Identifier: GPL-3.0-or-later
// Rows without their zeros (engine/weights/sparse_rows.h) as they were.
#pragma once
#include "engine/cuda/device.cuh"

namespace winnow::cuda {

constexpr int kExpandWarps = 8;

// A warp takes a row, a lane a column of each word of the mask.
template <class Element>
__global__ void __launch_bounds__(kExpandWarps * 32)
expandSparse(Pointer<const Element> values, Pointer<const uint32_t> starts, Pointer<const uint32_t> mask, int firstRow, int count, int cols, Pointer<Element> out) {
  const int r = static_cast<int>(blockIdx.x) * kExpandWarps + static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (r >= count) return;
  const int words = (cols + 31) / 32, row = firstRow + r;
  int64_t next = starts[row];
  for (int w = 0; w < words; ++w) {
    const uint32_t bits = mask[static_cast<int64_t>(row) * words + w];
    const int k = w * 32 + lane;
    const bool there = bits >> lane & 1;
    if (k < cols) out[static_cast<int64_t>(r) * cols + k] = there ? static_cast<Element>(values[next + __popc(bits & ((1u << lane) - 1))]) : Element{0};
    next += __popc(bits);
  }
}

}  // namespace winnow::cuda
