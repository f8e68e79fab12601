// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/multiply_packed.cuh"

namespace winnow::cuda {

template <int bits, bool super>
void launchPackedMode(Stream stream, const PackedJobs& jobs, unsigned tiles, ActivationMode mode) {
  const Grid grid{dim3(tiles), dim3(kPackedWarps * 32)};
  if (mode == ActivationMode::int8) return launch("multiplyPacked", stream, grid, multiplyPackedTiles<bits, ActivationMode::int8, super>, jobs);
  if (mode == ActivationMode::f32) return launch("multiplyPacked", stream, grid, multiplyPackedTiles<bits, ActivationMode::f32, super>, jobs);
  launch("multiplyPacked", stream, grid, multiplyPackedTiles<bits, ActivationMode::f16, super>, jobs);
}

}  // namespace winnow::cuda
