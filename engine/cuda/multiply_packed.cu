// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.cuh"

#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPacked(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode) {
  if (bits == 2) return launchPackedMode<2, false>(stream, jobs, tiles, mode);
  if (bits == 3) return launchPackedMode<3, false>(stream, jobs, tiles, mode);
  if (bits == 4) return launchPackedMode<4, false>(stream, jobs, tiles, mode);
  launchPackedWide(stream, jobs, tiles, bits, mode);
}

void multiplyPacked(Stream stream, std::span<const Target> targets, const Input& input) {
  CHECK(input.pieces, "the input was not prepared for packed weights");
  PackedJobs jobs;
  jobs.pieces = input.pieces;
  jobs.xScales = input.scales;
  jobs.xSums = input.sums;
  jobs.chunks = WeightFormat::chunks(input.cols);
  jobs.tokens = input.tokens;
  int tiles = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    PackedJob& job = jobs.job[i];
    job.w = viewOf(target.w);
    job.bias = target.bias;
    job.y = target.y;
    job.yStride = target.yStride;
    job.tiles = (target.w.rows + WeightFormat::kTileRows - 1) / WeightFormat::kTileRows;
    job.accumulate = target.accumulate;
    tiles += job.tiles;
  }
  const WeightFormat& format = targets[0].w.format;
  (format.super > 0 ? launchPackedSuper : launchPacked)(stream, jobs, static_cast<unsigned>(tiles), format.bits, input.mode);
}

}  // namespace winnow::cuda
