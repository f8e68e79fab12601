// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/gemm.h"
#include "engine/cuda/gemm_launch.cuh"

namespace winnow::cuda {

void launchGemmSuper(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode) {
  if (bits == 4) return launchGemmMode<4, Coding::super>(stream, jobs, mode);
  CHECK(bits == 5, bits);
  launchGemmMode<5, Coding::super>(stream, jobs, mode);
}

}  // namespace winnow::cuda
