// SPDX-License-Identifier: GPL-3.0-or-later
// Ternary weights -1, 0, 1 times one scale per group: the mean magnitude (BitNet b1.58, Ma et al. 2024) or the median one (Nielsen et al. 2024), to
// which weights are rounded. Both papers train such models with one scale per matrix; on weights that were not trained for it this shows why they
// have to. Stored as symmetric codes of 2 bits.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/quantize/methods.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows;
constexpr float kSmallest = 1e-5f;

float meanMagnitude(const std::vector<float>& magnitudes) {
  double sum = 0;
  for (const float x : magnitudes) sum += static_cast<double>(x);
  return static_cast<float>(sum / static_cast<double>(magnitudes.size()));
}

float medianMagnitude(std::vector<float>& magnitudes) {
  const auto middle = magnitudes.begin() + static_cast<std::ptrdiff_t>(magnitudes.size() / 2);
  std::nth_element(magnitudes.begin(), middle, magnitudes.end());
  if (magnitudes.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(magnitudes.begin(), middle)) / 2;
}

void quantizeTernary(const float* rows, int firstRow, int count, bool median, Matrix& out) {
  const WeightFormat& f = out.format;
  CHECK(f.storage == Storage::packed && f.bits == 2 && f.symmetric && f.super == 0 && firstRow % kTile == 0, f.bits, f.symmetric, firstRow);
  const int cols = out.cols, group = f.groupCols(cols);
  std::vector<uint8_t> q(static_cast<size_t>(kTile) * static_cast<size_t>(cols));
  std::vector<float> magnitudes;
  for (int first = 0; first < count; first += kTile) {
    const int tile = (firstRow + first) / kTile, n = std::min(kTile, count - first);
    std::fill(q.begin(), q.end(), uint8_t{0});
    for (int r = 0; r < n; ++r)
      for (int begin = 0; begin < cols; begin += group) {
        const int size = std::min(group, cols - begin);
        const float* w = rows + int64_t{first + r} * cols + begin;
        magnitudes.resize(static_cast<size_t>(size));
        for (int j = 0; j < size; ++j) magnitudes[static_cast<size_t>(j)] = std::fabs(w[j]);
        const float wanted = std::max(median ? medianMagnitude(magnitudes) : meanMagnitude(magnitudes), kSmallest);
        const uint16_t stored = floatToF16(std::min(wanted, 65504.0f));
        const float scale = f16ToFloat(stored);
        const_cast<uint16_t*>(out.scales)[(static_cast<size_t>(tile) * static_cast<size_t>(f.groups(cols)) + static_cast<size_t>(begin / group)) * kTile + static_cast<size_t>(r)] = stored;
        for (int j = 0; j < size; ++j)
          q[static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(begin + j)] =
              static_cast<uint8_t>(2 + static_cast<int>(std::clamp(std::nearbyint(w[j] / scale), -1.0f, 1.0f)));
      }
    packTile(out, tile, q.data());
  }
}

}  // namespace

void quantizeTernaryMean(const float* rows, int firstRow, int count, const MethodInput&, Matrix& out) { quantizeTernary(rows, firstRow, count, false, out); }
void quantizeTernaryMedian(const float* rows, int firstRow, int count, const MethodInput&, Matrix& out) { quantizeTernary(rows, firstRow, count, true, out); }

}  // namespace winnow
