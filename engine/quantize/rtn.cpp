// SPDX-License-Identifier: GPL-3.0-or-later
// Round to nearest (ties to even), group-wise. Every rounding uses the f16 scale that is stored, so |w - dequantized| <= scale/2.
// Symmetric: codes -qmax..qmax, qmax = 2^(bits-1) - 1. Asymmetric: f16 minimum, codes 0..2^bits - 1, error <= scale/2 + |min| 2^-11;
// where |min| > 32 (max - min) the minimum is rounded down and the scale up so that the grid covers the group and the
// error stays <= scale/2. Magnitudes beyond f16 (65504 for a minimum, 65504 qmax for a weight) saturate. Codes that are no integers are
// rounded as their format has it (code_format.h).
#include <algorithm>
#include <vector>

#include "engine/core/check.h"
#include "engine/quantize/grid.h"
#include "engine/quantize/methods.h"

namespace winnow {

void quantizeRtn(const float* rows, int firstRow, int count, const MethodInput&, Matrix& out) {
  constexpr int kTileRows = WeightFormat::kTileRows;
  const WeightFormat& format = out.format;
  CHECK(firstRow % kTileRows == 0 && firstRow + count <= out.rows, firstRow, count, out.rows);
  const size_t cols = static_cast<size_t>(out.cols);
  std::vector<uint8_t> q(kTileRows * cols);
  for (int first = 0; first < count; first += kTileRows) {
    const int tile = (firstRow + first) / kTileRows, n = std::min(kTileRows, count - first);
    if (n < kTileRows) std::fill(q.begin(), q.end(), uint8_t{0});
    for (int r = 0; r < n; ++r)
      roundRow(format, rows + static_cast<size_t>(first + r) * cols, out.cols, q.data() + static_cast<size_t>(r) * cols, gridPlace(out, firstRow + first + r, 0));
    packTile(out, tile, q.data());
  }
}

}  // namespace winnow
