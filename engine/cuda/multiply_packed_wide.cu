// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPackedWide(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row) {
  if (bits == 5) return launchPackedMode<5, Coding::integers>(stream, jobs, tiles, mode, row);
  if (bits == 6) return launchPackedMode<6, Coding::integers>(stream, jobs, tiles, mode, row);
  CHECK(bits == 8, bits);
  launchPackedMode<8, Coding::integers>(stream, jobs, tiles, mode, row);
}

}  // namespace winnow::cuda
