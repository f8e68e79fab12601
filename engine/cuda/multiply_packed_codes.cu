// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPackedCodes(Stream stream, const PackedJobs& jobs, unsigned tiles, Coding coding, ActivationMode mode, const RowSource* row) {
  if (coding == Coding::nf4) return launchPackedMode<4, Coding::nf4>(stream, jobs, tiles, mode, row);
  if (coding == Coding::e2m1) return launchPackedMode<4, Coding::e2m1>(stream, jobs, tiles, mode, row);
  if (coding == Coding::e4m3) return launchPackedMode<8, Coding::e4m3>(stream, jobs, tiles, mode, row);
  CHECK(coding == Coding::e5m2);
  launchPackedMode<8, Coding::e5m2>(stream, jobs, tiles, mode, row);
}

}  // namespace winnow::cuda
