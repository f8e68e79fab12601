// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPackedWide(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode) {
  if (bits == 5) return launchPackedMode<5, false>(stream, jobs, tiles, mode);
  if (bits == 6) return launchPackedMode<6, false>(stream, jobs, tiles, mode);
  CHECK(bits == 8, bits);
  launchPackedMode<8, false>(stream, jobs, tiles, mode);
}

}  // namespace winnow::cuda
