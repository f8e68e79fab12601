// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/gemm.h"
#include "engine/cuda/gemm_launch.cuh"

namespace winnow::cuda {

void launchGemmCodes(Stream stream, const GemmJobs& jobs, Coding coding, ActivationMode mode) {
  if (coding == Coding::nf4) return launchGemmMode<4, Coding::nf4>(stream, jobs, mode);
  if (coding == Coding::e2m1) return launchGemmMode<4, Coding::e2m1>(stream, jobs, mode);
  if (coding == Coding::e4m3) return launchGemmMode<8, Coding::e4m3>(stream, jobs, mode);
  CHECK(coding == Coding::e5m2);
  launchGemmMode<8, Coding::e5m2>(stream, jobs, mode);
}

}  // namespace winnow::cuda
