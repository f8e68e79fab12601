// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/rows.cuh"

#include <algorithm>

#include "engine/core/check.h"

namespace winnow::cuda {

void embed(Stream stream, const MatrixArgs& embedding, const MatrixArgs* positions, const int32_t* tokens, const int32_t* positionIds,
           int count, float* out) {
  launch("embed", stream, {dim3(static_cast<unsigned>(count)), dim3(kRowThreads)}, embedRows, viewOf(embedding),
         viewOf(positions ? *positions : MatrixArgs()), positions != nullptr, tokens, positionIds, out);
}

void rmsNorm(Stream stream, const float* x, const float* weight, float eps, int tokens, int n, float* out) {
  launch("rmsNorm", stream, {dim3(static_cast<unsigned>(tokens)), dim3(kRowThreads)}, rmsNormRows, x, weight, eps, n, out);
}

void layerNorm(Stream stream, const float* x, const float* weight, const float* bias, float eps, int tokens, int n, float* out) {
  launch("layerNorm", stream, {dim3(static_cast<unsigned>(tokens)), dim3(kRowThreads)}, layerNormRows, x, weight, bias, eps, n, out);
}

void activate(Stream stream, Activation kind, float* gate, const float* up, int64_t count) {
  launch("activate", stream, {dim3(blocksFor(count, kRowThreads)), dim3(kRowThreads)}, activateRows, kind, gate, up, count);
}

void correct(Stream stream, std::span<const WeightCorrection> corrections, const Source& x, int tokens, float* y, int64_t yStride) {
  CHECK(corrections.size() <= size_t{kMostCorrections}, corrections.size());
  CHECK(x.kind == Source::Kind::rows || x.kind == Source::Kind::activated);
  CorrectJob job;
  job.x = x.x;
  job.up = x.up;
  job.y = y;
  job.stride = x.stride;
  job.yStride = yStride;
  job.activates = x.kind == Source::Kind::activated;
  job.activation = x.activation;
  job.tokens = tokens;
  job.count = static_cast<int>(corrections.size());
  std::copy(corrections.begin(), corrections.end(), job.list);
  launch("correct", stream, {dim3(blocksFor(tokens, kRowThreads)), dim3(kRowThreads)}, correctRows, job);
}

}  // namespace winnow::cuda
