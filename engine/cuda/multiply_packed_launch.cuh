// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/multiply_packed.cuh"

namespace winnow::cuda {

template <int bits, ActivationMode mode, Coding coding>
void launchPackedAs(Stream stream, const PackedJobs& jobs, unsigned tiles, const RowSource* row) {
  constexpr int kThreads = kPackedWarps * 32;
  if (!row) return launch("multiplyPacked", stream, {dim3(tiles), dim3(kThreads)}, multiplyPackedTiles<bits, mode, coding>, jobs);
  launchOneRow("multiplyPackedRow", stream, blocksFor(tiles, row->perBlock), kThreads, fragmentBytes(mode, jobs.chunks),
               multiplyPackedOneRow<bits, mode, coding>, jobs, *row, static_cast<int>(tiles));
}
template <int bits, Coding coding>
void launchPackedMode(Stream stream, const PackedJobs& jobs, unsigned tiles, ActivationMode mode, const RowSource* row) {
  if constexpr (coding != Coding::e4m3 && coding != Coding::e5m2)
    if (mode == ActivationMode::int8) return launchPackedAs<bits, ActivationMode::int8, coding>(stream, jobs, tiles, row);
  CHECK(mode != ActivationMode::int8);
  if (mode == ActivationMode::f32) return launchPackedAs<bits, ActivationMode::f32, coding>(stream, jobs, tiles, row);
  launchPackedAs<bits, ActivationMode::f16, coding>(stream, jobs, tiles, row);
}

}  // namespace winnow::cuda
