// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/multiply_packed.cuh"

#include "engine/cuda/multiply_packed.h"
#include "engine/cuda/multiply_packed_launch.cuh"

namespace winnow::cuda {

void launchPacked(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row) {
  if (bits == 2) return launchPackedMode<2, Coding::integers>(stream, jobs, tiles, mode, row);
  if (bits == 3) return launchPackedMode<3, Coding::integers>(stream, jobs, tiles, mode, row);
  if (bits == 4) return launchPackedMode<4, Coding::integers>(stream, jobs, tiles, mode, row);
  launchPackedWide(stream, jobs, tiles, bits, mode, row);
}

namespace {

// The targets, and how many tiles they have together.
int addTargets(std::span<const Target> targets, PackedJobs& jobs) {
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
  jobs.chunks = WeightFormat::chunks(targets[0].w.cols);
  return tiles;
}

void launchJobs(Stream stream, const PackedJobs& jobs, int tiles, const WeightFormat& format, ActivationMode mode, const RowSource* row) {
  const auto count = static_cast<unsigned>(tiles);
  switch (const Coding coding = codingOf(format)) {
    case Coding::integers: return launchPacked(stream, jobs, count, format.bits, mode, row);
    case Coding::super: return launchPackedSuper(stream, jobs, count, format.bits, mode, row);
    case Coding::halves: return launchPackedHalves(stream, jobs, count, format.bits, mode, row);
    default: launchPackedCodes(stream, jobs, count, coding, mode, row);
  }
}

}  // namespace

void multiplyPacked(Stream stream, std::span<const Target> targets, const Input& input) {
  CHECK(input.pieces, "the input was not prepared for packed weights");
  PackedJobs jobs;
  jobs.x = {input.pieces, input.scales, input.sums, input.tokens};
  const int tiles = addTargets(targets, jobs);
  launchJobs(stream, jobs, tiles, targets[0].w.format, input.mode, nullptr);
}

void multiplyPackedRow(Stream stream, std::span<const Target> targets, const RowSource& source) {
  PackedJobs jobs;
  const int tiles = addTargets(targets, jobs);
  RowSource row = source;
  row.perBlock = (tiles + kRowBlocks - 1) / kRowBlocks;
  launchJobs(stream, jobs, tiles, targets[0].w.format, source.made.mode, &row);
}

}  // namespace winnow::cuda
