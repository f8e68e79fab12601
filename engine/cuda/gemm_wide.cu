// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/gemm.h"
#include "engine/cuda/gemm_launch.cuh"

namespace winnow::cuda {

void launchGemmWide(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode) {
  if (bits == 5) return launchGemmMode<5, Coding::integers>(stream, jobs, mode);
  if (bits == 6) return launchGemmMode<6, Coding::integers>(stream, jobs, mode);
  CHECK(bits == 8, bits);
  launchGemmMode<8, Coding::integers>(stream, jobs, mode);
}

}  // namespace winnow::cuda
