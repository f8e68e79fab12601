// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/coding.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

// Targets of one number of bits and one coding. Several files hold the instances, as compiling them takes a while.
void multiplyPacked(Stream stream, std::span<const Target> targets, const Input& input);
struct RowSource;
void multiplyPackedRow(Stream stream, std::span<const Target> targets, const RowSource& source);  // one row, which blocks make
struct PackedJobs;
// row: null, and the pieces lie in the jobs.
void launchPacked(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row);      // 2, 3, 4 bits
void launchPackedWide(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row);  // 5, 6, 8 bits
void launchPackedSuper(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row);  // 4, 5 bits
void launchPackedHalves(Stream stream, const PackedJobs& jobs, unsigned tiles, int bits, ActivationMode mode, const RowSource* row);  // 3, 6 bits
void launchPackedCodes(Stream stream, const PackedJobs& jobs, unsigned tiles, Coding coding, ActivationMode mode, const RowSource* row);  // no integers

}  // namespace winnow::cuda
