// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/gemm.cuh"

namespace winnow::cuda {

inline unsigned countBlocks(GemmJobs& jobs, int rowsPerBlock) {
  int blocks = 0;
  for (GemmJob& job : jobs.job) blocks += job.blocks = (job.w.rows + rowsPerBlock - 1) / rowsPerBlock;
  return static_cast<unsigned>(blocks);
}

template <int bits, ActivationMode mode, Coding coding, class Shape>
void launchGemmBlock(Stream stream, GemmJobs jobs) {
  const unsigned rowBlocks = countBlocks(jobs, Shape::kRows);
  launch("gemm", stream,
         {dim3(blocksFor(jobs.tokens, Shape::kTokens), rowBlocks), dim3(Shape::kThreads), GemmStage<bits, mode, coding, Shape>::kBytes},
         gemmTiles<bits, mode, coding, Shape>, jobs);
}
// Few tokens would leave most of a wide block idle. In f32, pieces of levels and sums of halves do not fit its registers.
template <int bits, ActivationMode mode, Coding coding>
void launchGemm(Stream stream, const GemmJobs& jobs) {
  if constexpr (mode != ActivationMode::f32 || (coding != Coding::nf4 && coding != Coding::halves))
    if (jobs.tokens > NarrowGemm::kTokens) return launchGemmBlock<bits, mode, coding, WideGemm>(stream, jobs);
  launchGemmBlock<bits, mode, coding, NarrowGemm>(stream, jobs);
}
template <int bits, Coding coding>
void launchGemmMode(Stream stream, const GemmJobs& jobs, ActivationMode mode) {
  if constexpr (coding != Coding::e4m3 && coding != Coding::e5m2)
    if (mode == ActivationMode::int8) return launchGemm<bits, ActivationMode::int8, coding>(stream, jobs);
  CHECK(mode != ActivationMode::int8);
  if (mode == ActivationMode::f32) return launchGemm<bits, ActivationMode::f32, coding>(stream, jobs);
  launchGemm<bits, ActivationMode::f16, coding>(stream, jobs);
}

}  // namespace winnow::cuda
