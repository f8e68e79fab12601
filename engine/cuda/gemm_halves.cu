// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/gemm.h"
#include "engine/cuda/gemm_launch.cuh"

namespace winnow::cuda {

void launchGemmHalves(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode) {
  if (bits == 3) return launchGemmMode<3, Coding::halves>(stream, jobs, mode);
  CHECK(bits == 6, bits);
  launchGemmMode<6, Coding::halves>(stream, jobs, mode);
}

}  // namespace winnow::cuda
