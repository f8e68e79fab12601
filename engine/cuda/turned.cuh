// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/hadamard.cuh"
#include "engine/cuda/sealed_row.cuh"

namespace winnow::cuda {

constexpr int kTurnWarps = 4;

struct TurnJob {
  Pages pages;
  PageLayout page;
  Pointer<const PageForm> keyForms;
  Pointer<const float> frequencies;
  Pointer<uint16_t> rows;
  Pointer<uint64_t> table;
  Pointer<PageForm> forms;
  uint64_t address = 0;  // of rows
  float hadamard = 0;    // 1 / sqrt(headDim), or 0: no rotation
  int half = 0, added = 0, mostPages = 0;
};

// A head of a warp's part of shared memory, by so many positions. Angles are in double, as where keys are first turned.
__device__ inline void turnBy(const TurnJob& job, Pointer<float> key, int positions, int lane) {
  const int n = job.page.headDim;
  if (job.hadamard != 0) turnHadamard(key, n, job.hadamard, lane);
  for (int c = lane; c < job.half; c += 32) {
    const double angle = static_cast<double>(positions) * static_cast<double>(job.frequencies[c]);
    const float a = key[c], b = key[job.half + c], cosine = static_cast<float>(cos(angle)), sine = static_cast<float>(sin(angle));
    key[c] = a * cosine - b * sine;
    key[job.half + c] = a * sine + b * cosine;
  }
  __syncwarp();
  if (job.hadamard != 0) turnHadamard(key, n, job.hadamard, lane);
}

// blockIdx.x: page; blockIdx.y: kv head. A page without gaps behind it stays where it is; slots later in a page miss no more than earlier ones.
__global__ void __launch_bounds__(kTurnWarps * 32) turnKeys(const __grid_constant__ TurnJob job) {
  __shared__ SharedArray<float, kTurnWarps * kMostHeadDim> keys;
  const int page = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int held = job.pages.lengths[head] + job.added, begin = page * job.page.tokens, entry = head * job.pages.pageStride + page, n = job.page.headDim;
  if (begin >= held) return;
  Pointer<const int32_t> positions = job.pages.positions + head * job.pages.positionStride;
  const int newest = positions[held - 1];
  const auto missingBehind = [&](int slot) { return newest - positions[slot] - (held - 1 - slot); };
  const int64_t to = static_cast<int64_t>(head * job.mostPages + page) * job.page.tokens * n;
  const bool turns = missingBehind(begin) > 0;
  PageForm form;
  if (job.keyForms) form = job.keyForms[entry];
  if (threadIdx.x == 0) {
    job.table[entry] = turns ? job.address + static_cast<uint64_t>(to) * 2 : job.pages.keys[entry];
    if (job.forms) job.forms[entry] = turns ? PageForm() : form;
  }
  if (!turns) return;
  Pointer<float> key = keys.pointer() + warp * kMostHeadDim;
  for (int i = warp; i < min(job.page.tokens, held - begin); i += kTurnWarps) {
    const SlotRow row = slotRow(job.page, job.pages.keys, form, entry, i);
    for (int c = lane; c < n; c += 32) key[c] = halfToFloat(valueAt(job.page, row, c));
    __syncwarp();
    const int missing = missingBehind(begin + i);
    if (missing > 0) turnBy(job, key, missing, lane);
    for (int c = lane; c < n; c += 32) job.rows[to + i * n + c] = floatToHalf(key[c]);
    __syncwarp();
  }
}

}  // namespace winnow::cuda
