// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/gemm.h"

#include "engine/cuda/gemm_fma.cuh"
#include "engine/cuda/gemm_launch.cuh"

namespace winnow::cuda {
namespace {

GemmJobs jobsOf(std::span<const Target> targets, const Input& input) {
  GemmJobs jobs;
  jobs.pieces = input.pieces;
  jobs.xScales = input.scales;
  jobs.xTotals = input.totals;
  jobs.xSums = input.sums;
  jobs.x = input.x;
  jobs.xStride = input.stride;
  jobs.chunks = WeightFormat::chunks(input.cols);
  jobs.cols = input.cols;
  jobs.tokens = input.tokens;
  for (size_t i = 0; i < targets.size(); ++i) {
    GemmJob& job = jobs.job[i];
    job.w = viewOf(targets[i].w);
    job.bias = targets[i].bias;
    job.y = targets[i].y;
    job.yStride = targets[i].yStride;
    job.accumulate = targets[i].accumulate;
  }
  return jobs;
}

void launchFma(Stream stream, GemmJobs jobs, Storage storage) {
  const unsigned rowBlocks = countBlocks(jobs, kFmaRows);
  const Grid grid{dim3(blocksFor(jobs.tokens, kFmaTokens), rowBlocks), dim3(kFmaThreads)};
  if (storage == Storage::f32) return launch("gemmFma", stream, grid, gemmFma<Storage::f32>, jobs);
  if (storage == Storage::f16) return launch("gemmFma", stream, grid, gemmFma<Storage::f16>, jobs);
  launch("gemmFma", stream, grid, gemmFma<Storage::bf16>, jobs);
}

}  // namespace

bool gemmOfFragments(const WeightFormat& format, int cols, ActivationMode mode) {
  if (format.storage == Storage::packed) return true;
  const bool same = (format.storage == Storage::f16 && mode == ActivationMode::f16) ||
                    (format.storage == Storage::bf16 && mode == ActivationMode::bf16);
  return same && cols % 8 == 0;  // rows begin at 16 bytes
}

void gemm(Stream stream, std::span<const Target> targets, const Input& input) {
  const GemmJobs jobs = jobsOf(targets, input);
  const WeightFormat& format = targets[0].w.format;
  if (!gemmOfFragments(format, input.cols, input.mode)) {
    CHECK(input.x, "the input was not prepared for plain weights");
    return launchFma(stream, jobs, format.storage);
  }
  CHECK(input.pieces, "the input was not prepared for the tensor cores");
  for (const Target& target : targets) CHECK(reinterpret_cast<uintptr_t>(target.w.data) % 16 == 0);
  if (format.storage == Storage::packed) {
    switch (const Coding coding = codingOf(format)) {
      case Coding::integers: return (format.bits <= 4 ? launchGemmPacked : launchGemmWide)(stream, jobs, format.bits, input.mode);
      case Coding::super: return launchGemmSuper(stream, jobs, format.bits, input.mode);
      case Coding::halves: return launchGemmHalves(stream, jobs, format.bits, input.mode);
      default: return launchGemmCodes(stream, jobs, coding, input.mode);
    }
  }
  if (format.storage == Storage::f16) return launchGemm<kPlainBits, ActivationMode::f16, Coding::integers>(stream, jobs);
  launchGemm<kPlainBits, ActivationMode::bf16, Coding::integers>(stream, jobs);
}

}  // namespace winnow::cuda
