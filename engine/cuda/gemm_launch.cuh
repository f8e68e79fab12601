// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/gemm.cuh"

namespace winnow::cuda {

inline unsigned countBlocks(GemmJobs& jobs, int rowsPerBlock) {
  int blocks = 0;
  for (GemmJob& job : jobs.job) blocks += job.blocks = (job.w.rows + rowsPerBlock - 1) / rowsPerBlock;
  return static_cast<unsigned>(blocks);
}

template <int bits, ActivationMode mode, bool super, class Shape>
void launchGemmBlock(Stream stream, GemmJobs jobs) {
  const unsigned rowBlocks = countBlocks(jobs, Shape::kRows);
  launch("gemm", stream,
         {dim3(blocksFor(jobs.tokens, Shape::kTokens), rowBlocks), dim3(Shape::kThreads), GemmStage<bits, mode, super, Shape>::kBytes},
         gemmTiles<bits, mode, super, Shape>, jobs);
}
// Few tokens would leave most of a wide block idle.
template <int bits, ActivationMode mode, bool super>
void launchGemm(Stream stream, const GemmJobs& jobs) {
  jobs.tokens <= NarrowGemm::kTokens ? launchGemmBlock<bits, mode, super, NarrowGemm>(stream, jobs)
                                     : launchGemmBlock<bits, mode, super, WideGemm>(stream, jobs);
}
template <int bits, bool super>
void launchGemmMode(Stream stream, const GemmJobs& jobs, ActivationMode mode) {
  if (mode == ActivationMode::int8) return launchGemm<bits, ActivationMode::int8, super>(stream, jobs);
  if (mode == ActivationMode::f32) return launchGemm<bits, ActivationMode::f32, super>(stream, jobs);
  launchGemm<bits, ActivationMode::f16, super>(stream, jobs);
}

}  // namespace winnow::cuda
