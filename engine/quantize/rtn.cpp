// SPDX-License-Identifier: GPL-3.0-or-later
// Round to nearest (ties to even), group-wise. Every rounding uses the f16 scale that is stored, so |w - dequantized| <= scale/2.
// Symmetric: codes -qmax..qmax, qmax = 2^(bits-1) - 1. Asymmetric: f16 minimum, codes 0..2^bits - 1, error <= scale/2 + |min| 2^-11;
// where |min| > 32 (max - min) the minimum is rounded down and the scale up so that the grid covers the group and the
// error stays <= scale/2. Magnitudes beyond f16 (65504 for a minimum, 65504 qmax for a weight) saturate.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/quantize/methods.h"

namespace winnow {
namespace {

constexpr float kHalfMax = 65504.0f;
constexpr float kHalfMin = 0x1p-24f;  // smallest positive f16

float half(float x) { return f16ToFloat(floatToF16(std::clamp(x, -kHalfMax, kHalfMax))); }
float halfDown(float x) {  // largest f16 <= x
  const float h = half(x);
  if (h <= x) return h;
  const uint16_t u = floatToF16(h);
  if (h == 0) return -kHalfMin;
  return f16ToFloat(static_cast<uint16_t>(h > 0 ? u - 1 : u + 1));
}
float halfUp(float x) { return -halfDown(-x); }

struct Grid {
  float scale, min;
};

Grid symmetricGrid(const float* w, int count, int qmax) {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = std::max(largest, std::fabs(w[i]));
  float scale = half(largest / static_cast<float>(qmax));
  // Only among f16 subnormals can rounding move the scale so far that the largest weight falls off the grid.
  if (largest > (static_cast<float>(qmax) + 0.5f) * scale) scale = std::min(halfUp(largest / static_cast<float>(qmax)), kHalfMax);
  return {scale, 0};
}

Grid asymmetricGrid(const float* w, int count, int qmax) {
  float low = w[0], high = w[0];
  for (int i = 1; i < count; ++i) {
    low = std::min(low, w[i]);
    high = std::max(high, w[i]);
  }
  const float range = high - low;
  const float q = static_cast<float>(qmax);
  if (range == 0) {  // exact when the value is an f16; else one step on top of the minimum makes up the difference
    const float min = halfDown(low);
    return min == low ? Grid{1, min} : Grid{std::max(half(low - min), kHalfMin), min};
  }
  if (std::fabs(low) > 32 * range) {
    const float min = halfDown(low);
    return {std::clamp(halfUp((high - min) / q), kHalfMin, kHalfMax), min};
  }
  float scale = half(range / q);
  if (range > (q + 0.5f) * scale) scale = std::min(halfUp(range / q), kHalfMax);
  return {scale, half(low)};
}

uint8_t code(float w, float min, float scale, int low, int high) {
  const float q = scale > 0 ? std::nearbyintf((w - min) / scale) : 0.0f;
  if (!(q > static_cast<float>(low))) return static_cast<uint8_t>(0);  // NaN as well
  return static_cast<uint8_t>((q < static_cast<float>(high) ? static_cast<int>(q) : high) - low);
}

}  // namespace

void quantizeRtn(const float* rows, int firstRow, int count, Matrix& out) {
  const WeightFormat& format = out.format;
  CHECK(format.storage == Storage::packed && firstRow % WeightFormat::kTileRows == 0, firstRow);
  const int cols = out.cols, group = format.groupCols(cols), groups = format.groups(cols), bits = format.bits;
  const int levels = (1 << bits) - 1, qmax = (1 << (bits - 1)) - 1;
  const int offset = 1 << (bits - 1);
  std::vector<uint8_t> q(static_cast<size_t>(WeightFormat::kTileRows) * static_cast<size_t>(cols));
  for (int first = 0; first < count; first += WeightFormat::kTileRows) {
    const int tile = (firstRow + first) / WeightFormat::kTileRows, n = std::min(WeightFormat::kTileRows, count - first);
    std::fill(q.begin(), q.end(), uint8_t{0});
    for (int r = 0; r < n; ++r) {
      const float* row = rows + static_cast<size_t>(first + r) * static_cast<size_t>(cols);
      for (int g = 0; g < groups; ++g) {
        const int begin = g * group, size = std::min(group, cols - begin);
        const Grid grid = format.symmetric ? symmetricGrid(row + begin, size, qmax) : asymmetricGrid(row + begin, size, levels);
        const size_t at = (static_cast<size_t>(tile) * static_cast<size_t>(groups) + static_cast<size_t>(g)) * WeightFormat::kTileRows + static_cast<size_t>(r);
        const_cast<uint16_t*>(out.scales)[at] = floatToF16(grid.scale);
        if (!format.symmetric) const_cast<uint16_t*>(out.mins)[at] = floatToF16(grid.min);
        uint8_t* codes = q.data() + static_cast<size_t>(r) * static_cast<size_t>(cols) + begin;
        for (int k = 0; k < size; ++k)
          codes[k] = format.symmetric ? static_cast<uint8_t>(code(row[begin + k], 0, grid.scale, -qmax, qmax) + offset - qmax)
                                      : code(row[begin + k], grid.min, grid.scale, 0, levels);
      }
    }
    packTile(out, tile, q.data());
  }
}

}  // namespace winnow
