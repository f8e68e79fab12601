// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/gemm.h"
#include "engine/cuda/gemm_launch.cuh"

namespace winnow::cuda {

void launchGemmPacked(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode) {
  if (bits == 2) return launchGemmMode<2, Coding::integers>(stream, jobs, mode);
  if (bits == 3) return launchGemmMode<3, Coding::integers>(stream, jobs, mode);
  CHECK(bits == 4, bits);
  launchGemmMode<4, Coding::integers>(stream, jobs, mode);
}

}  // namespace winnow::cuda
