// SPDX-License-Identifier: GPL-3.0-or-later
// A head times a Hadamard matrix, as the host turns keys and queries.
#pragma once
#include <cmath>

#include "engine/cuda/pages.cuh"

namespace winnow::cuda {

inline float hadamardScale(int headDim) { return 1.0f / std::sqrt(static_cast<float>(headDim)); }

// rotateHadamard of engine/cache/kv_format.h by a warp: the same sums in the same order. n is a power of two.
__device__ inline void turnHadamard(Pointer<float> head, int n, float scale, int lane) {
  for (int half = 1; half < n; half *= 2) {
    for (int pair = lane; pair < n / 2; pair += 32) {
      const int i = pair / half * 2 * half + pair % half;
      const float a = head[i], b = head[i + half];
      head[i] = a + b;
      head[i + half] = a - b;
    }
    __syncwarp();
  }
  for (int c = lane; c < n; c += 32) head[c] = head[c] * scale;
  __syncwarp();
}

}  // namespace winnow::cuda
