// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPackedSuper(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row) {
  if (bits == 4) return launchPackedMode<4, Coding::super>(stream, jobs, tiles, mode, row);
  CHECK(bits == 5, bits);
  launchPackedMode<5, Coding::super>(stream, jobs, tiles, mode, row);
}

}  // namespace winnow::cuda
