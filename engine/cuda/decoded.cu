// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/decoded.cuh"

namespace winnow::cuda {

void decodeToHalves(Stream stream, const MatrixArgs& m, int firstRow, int count, uint16_t* out) {
  CHECK(m.format.storage == Storage::packed && m.cols % 8 == 0 && firstRow % 16 == 0, m.format.describe(), m.cols, firstRow);
  CHECK(firstRow + count <= m.rows, firstRow, count, m.rows);
  const int tiles = (count + 15) / 16;
  launch("decode", stream, {dim3(blocksFor(int64_t{tiles} * WeightFormat::chunks(m.cols), kDecodeWarps)), dim3(kDecodeWarps * 32)},
         decodeTiles, viewOf(m), firstRow / 16, tiles, firstRow + count, out);
}

void addBiasRows(Stream stream, float* y, int64_t stride, const float* bias, int tokens, int rows) {
  launch("bias", stream, {dim3(blocksFor(rows, 256), static_cast<unsigned>(tokens)), dim3(256)}, addBias, y, stride, bias, rows);
}

}  // namespace winnow::cuda
