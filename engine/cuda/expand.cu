// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/expand.cuh"
#include "engine/cuda/ops.h"

namespace winnow::cuda {

void expandRows(Stream stream, const MatrixArgs& m, int firstRow, int count, void* out) {
  CHECK(m.format.sparse && firstRow + count <= m.rows, m.format.describe(), firstRow, count, m.rows);
  const Grid grid{dim3(blocksFor(count, kExpandWarps)), dim3(kExpandWarps * 32)};
  const auto* mask = reinterpret_cast<const uint32_t*>(m.sparse.mask);
  if (m.format.storage == Storage::f32)
    return launch("expand", stream, grid, expandSparse<uint32_t>, static_cast<const uint32_t*>(m.sparse.values), m.sparse.starts, mask, firstRow, count, m.cols,
                  static_cast<uint32_t*>(out));
  launch("expand", stream, grid, expandSparse<uint16_t>, static_cast<const uint16_t*>(m.sparse.values), m.sparse.starts, mask, firstRow, count, m.cols,
         static_cast<uint16_t*>(out));
}

}  // namespace winnow::cuda
