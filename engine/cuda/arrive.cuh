// SPDX-License-Identifier: GPL-3.0-or-later
// The last of several blocks to get somewhere, which goes on with what all of them wrote: which one it is does not matter.
#pragma once
#include "engine/cuda/device.cuh"

namespace winnow::cuda {

// Called by all threads of `count` blocks; true in the last, which sees what the others wrote before they called. ticket: 0 before and
// after.
__device__ inline bool arrivesLast(Pointer<uint32_t> ticket, uint32_t count, SharedArray<uint32_t, 1>& last) {
  __syncthreads();
  if (count <= 1) return true;
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = atomicInc(ticket, count - 1) == count - 1;  // then it is 0 again
    __threadfence();
  }
  __syncthreads();
  return last[0] != 0;
}

}  // namespace winnow::cuda
