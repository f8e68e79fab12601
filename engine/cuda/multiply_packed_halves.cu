// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPackedHalves(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row) {
  if (bits == 3) return launchPackedMode<3, Coding::halves>(stream, jobs, tiles, mode, row);
  CHECK(bits == 6, bits);
  launchPackedMode<6, Coding::halves>(stream, jobs, tiles, mode, row);
}

}  // namespace winnow::cuda
