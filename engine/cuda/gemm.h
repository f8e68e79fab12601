// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cuda/coding.h"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

// Whether products of such weights with many tokens go through the tensor cores, and so want x as fragments; else they want it plain.
bool gemmOfFragments(const WeightFormat& format, int cols, ActivationMode mode);
// Targets of one storage, number of bits and coding. Several files hold the instances, as compiling them takes a while.
void gemm(Stream stream, std::span<const Target> targets, const Input& input);
struct GemmJobs;
void launchGemmPacked(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode);  // 2, 3, 4 bits
void launchGemmWide(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode);    // 5, 6, 8 bits
void launchGemmSuper(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode);   // 4, 5 bits with super-blocks
void launchGemmHalves(Stream stream, const GemmJobs& jobs, int bits, ActivationMode mode);  // 3, 6 bits with a scale for each half of a chunk
void launchGemmCodes(Stream stream, const GemmJobs& jobs, Coding coding, ActivationMode mode);  // codes that are no integers

}  // namespace winnow::cuda
