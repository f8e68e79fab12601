// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/prune.cuh"

#include <algorithm>
#include <cmath>

namespace winnow::cuda {

size_t pruneScratchBytes(int rows) { return sizeof(Count) * (3 * kPruneBins + 2 + static_cast<size_t>(rows)); }

void pruneMagnitude(Stream stream, float* weights, int rows, int cols, double ratio, void* scratch) {
  CHECK(rows > 0 && cols > 0 && ratio >= 0 && ratio <= 1, rows, cols, ratio);
  const int64_t total = int64_t{rows} * cols;
  PruneJob job;
  job.weights = weights;
  auto* counts = static_cast<Count*>(scratch);
  job.bins = counts;
  job.state = counts + 3 * kPruneBins;
  job.ties = counts + 3 * kPruneBins + 2;
  job.target = static_cast<Count>(std::floor(ratio * static_cast<double>(total)));
  job.rows = rows;
  job.cols = cols;
  if (job.target == 0) return;
  launch("pruneClear", stream, {dim3(blocksFor(3 * kPruneBins, kPruneThreads)), dim3(kPruneThreads)}, clearPrune, job);
  const unsigned blocks = std::min(blocksFor(total, kPruneThreads * 16), 1024u);
  for (int level = 0; level < 3; ++level) {
    launch("pruneCount", stream, {dim3(blocks), dim3(kPruneThreads)}, countMagnitudes, job, level);
    launch("prunePick", stream, {dim3(1), dim3(32)}, pickDigit, job, level);
  }
  launch("pruneTies", stream, {dim3(static_cast<unsigned>(rows)), dim3(kPruneThreads)}, countTies, job);
  launch("pruneShare", stream, {dim3(1), dim3(32)}, shareTies, job);
  launch("pruneZero", stream, {dim3(blocksFor(rows, kPruneThreads / 32)), dim3(kPruneThreads)}, zeroSmall, job);
}

}  // namespace winnow::cuda
