// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/device.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

constexpr int kMostHeadDim = 256;

struct Pages {  // KvTables as kernels see it
  Pointer<const uint64_t> keys, values;
  Pointer<const int32_t> lengths;
  Pointer<int32_t> positions;
  int64_t positionStride = 0;
  int pageStride = 0, pageTokens = 0;

  template <class T>
  __device__ Pointer<T> slot(Pointer<const uint64_t> table, int head, int slot, int headDim) const {
    return pointerAt<T>(table, head * pageStride + slot / pageTokens) + static_cast<int64_t>(slot % pageTokens) * headDim;
  }
};
inline Pages pagesOf(const KvTables& kv) {
  Pages p;
  p.keys = kv.keys;
  p.values = kv.values;
  p.lengths = kv.lengths;
  p.positions = kv.positions;
  p.positionStride = kv.positionStride;
  p.pageStride = kv.pageStride;
  p.pageTokens = kv.pageTokens;
  return p;
}

}  // namespace winnow::cuda
