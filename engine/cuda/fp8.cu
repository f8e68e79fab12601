// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/fp8.cuh"

namespace winnow::cuda {

void encodeWeights(Stream stream, const MatrixArgs& m, int firstRow, int count, uint8_t* codes, float* scales) {
  CHECK(firstRow % kFp8Multiple == 0 && count % kFp8Multiple == 0 && count > 0 && m.cols % kFp8Multiple == 0, firstRow, count, m.cols);
  CHECK(firstRow + count <= m.rows, firstRow, count, m.rows);
  const Grid grid{dim3(static_cast<unsigned>(count / 16)), dim3(kEncodeWarps * 32)};
  launch("encodeWeights", stream, grid, encodeTiles, viewOf(m), firstRow, reinterpret_cast<uint32_t*>(codes), scales);
}

void encodeInput(Stream stream, const Source& source, int tokens, int cols, uint8_t* codes, float* scales) {
  CHECK(tokens > 0 && cols % 4 == 0, tokens, cols);
  const PrepareJob job = jobOf(source, tokens, cols);
  const Grid grid{dim3(static_cast<unsigned>(tokens)), dim3(kRowThreads)};
  auto* const words = reinterpret_cast<uint32_t*>(codes);
  switch (source.kind) {
    case Source::Kind::rows: return launch("encodeInput", stream, grid, encodeRows<Source::Kind::rows>, job, words, scales);
    case Source::Kind::rms: return launch("encodeNorm", stream, grid, encodeRows<Source::Kind::rms>, job, words, scales);
    case Source::Kind::layer: return launch("encodeNorm", stream, grid, encodeRows<Source::Kind::layer>, job, words, scales);
    case Source::Kind::activated: return launch("encodeActivated", stream, grid, encodeRows<Source::Kind::activated>, job, words, scales);
  }
}

void scaleSums(Stream stream, const ScaleSums& args) {
  ScaleJob job;
  job.sums = args.sums;
  job.xScales = args.xScales;
  job.wScales = args.wScales;
  job.bias = args.bias;
  job.y = args.y;
  job.yStride = args.yStride;
  job.rows = args.rows;
  job.accumulate = args.accumulate;
  launch("scaleSums", stream, {dim3(blocksFor(args.rows, 256), static_cast<unsigned>(args.tokens)), dim3(256)}, scaleRows, job);
}

}  // namespace winnow::cuda
