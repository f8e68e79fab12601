// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/quantize/grid.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/isa.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows;

float scaleOf(const WeightFormat& format, const GridPlace& place) {
  return format.exponents() ? std::ldexp(1.0f, *place.steps - 127) : f16ToFloat(*place.scales);
}

}  // namespace

GridPlace gridPlace(Matrix& m, int row, int group) {
  CHECK(m.format.storage == Storage::packed && m.format.super == 0, m.format.describe());
  const size_t at = (static_cast<size_t>(row / kTile) * static_cast<size_t>(m.format.groups(m.cols)) + static_cast<size_t>(group)) * kTile + static_cast<size_t>(row % kTile);
  return {m.scales ? const_cast<uint16_t*>(m.scales) + at : nullptr, m.mins ? const_cast<uint16_t*>(m.mins) + at : nullptr,
          m.steps ? const_cast<uint8_t*>(m.steps) + at : nullptr};
}

void roundRow(const WeightFormat& format, const float* w, int cols, uint8_t* q, const GridPlace& place) {
  const int group = format.groupCols(cols);
  const CodeFormat* codes = findCodeFormat(format.code);
  if (!codes) return cpu::bestKernels().rtnRow(w, cols, group, format.bits, format.symmetric, q, place.scales, place.mins);
  GridPlace at = place;
  for (int begin = 0; begin < cols; begin += group) {
    const int size = std::min(group, cols - begin);
    const uint16_t bits = codes->scaleOf(cpu::bestCodeKernels().largest(w + begin, size));
    if (format.exponents()) {
      *at.steps = static_cast<uint8_t>(bits);
      at.steps += kTile;
    } else {
      *at.scales = bits;
      at.scales += kTile;
    }
    const float scale = format.exponents() ? std::ldexp(1.0f, bits - 127) : f16ToFloat(bits);
    codes->encode(w + begin, size, scale > 0 ? scale : 1, q + begin);
  }
}

Grid::Grid(const WeightFormat& format, const GridPlace& place)
    : format_(findCodeFormat(format.code)), values_(format_ ? format_->values.data() : nullptr), scale_(scaleOf(format, place)),
      min_(place.mins ? f16ToFloat(*place.mins) : 0), offset_(format.symmetric ? static_cast<float>(1 << (format.bits - 1)) : 0),
      bottom_(format.symmetric ? 1 - offset_ : 0), top_(format.symmetric ? offset_ - 1 : static_cast<float>((1 << format.bits) - 1)) {}

uint8_t Grid::nearest(float w) const {
  const float unit = scale_ > 0 ? scale_ : 1;
  if (!format_) return static_cast<uint8_t>(std::nearbyint(std::min(std::max((w - min_) / unit, bottom_), top_)) + offset_);
  uint8_t code = 0;
  format_->encode(&w, 1, unit, &code);
  return code;
}

}  // namespace winnow
