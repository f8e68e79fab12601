// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/blocks.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/core/check.h"

namespace winnow {
namespace {

// Offsets in a block of 32 values; absent parts are -1.
struct Layout {
  int min, high, codes;
};
Layout layoutOf(DType type) {
  switch (type) {
    case DType::q4_1: return {2, -1, 4};
    case DType::q5_0: return {-1, 2, 6};
    case DType::q5_1: return {2, 4, 8};
    default: return {-1, -1, 2};
  }
}

void decodeCodes(DType type, const Layout& layout, const std::byte* block, uint8_t* q) {
  const auto* codes = reinterpret_cast<const uint8_t*>(block) + layout.codes;
  if (type == DType::q8_0) {
    for (int k = 0; k < 32; ++k) q[k] = static_cast<uint8_t>(codes[k] ^ 0x80);
    return;
  }
  for (int k = 0; k < 16; ++k) {
    q[k] = codes[k] & 15;
    q[k + 16] = codes[k] >> 4;
  }
  if (layout.high < 0) return;
  uint32_t high;
  std::memcpy(&high, block + layout.high, 4);
  for (int p = 0; p < 8; ++p) {
    uint32_t dword;
    std::memcpy(&dword, q + 4 * p, 4);
    // Four bits to the lowest bits of four bytes: no two shifted copies meet in the bits that are kept.
    dword |= ((high >> (4 * p) & 15) * 0x00204081u & 0x01010101u) << 4;
    std::memcpy(q + 4 * p, &dword, 4);
  }
}

}  // namespace

std::optional<WeightFormat> exactFormat(DType type) {
  switch (type) {
    case DType::q8_0: return WeightFormat{Storage::packed, 8, 32, true};
    case DType::q4_0: return WeightFormat{Storage::packed, 4, 32, true};
    case DType::q4_1: return WeightFormat{Storage::packed, 4, 32, false};
    case DType::q5_0: return WeightFormat{Storage::packed, 5, 32, true};
    case DType::q5_1: return WeightFormat{Storage::packed, 5, 32, false};
    default: return std::nullopt;
  }
}

bool packBlocksExactly(DType type, const std::byte* rowBlocks, size_t rowStride, int count, int firstRow, Matrix& out) {
  const auto format = exactFormat(type);
  if (!format || *format != out.format || out.cols % 32 != 0) return false;
  CHECK(firstRow % 16 == 0 && firstRow + count <= out.rows, firstRow, count, out.rows);
  const Layout layout = layoutOf(type);
  const int groups = out.cols / 32, blockBytes = dtypeTraits(type).blockBytes;
  std::vector<uint8_t> q(static_cast<size_t>(16) * static_cast<size_t>(out.cols));
  for (int first = 0; first < count; first += 16) {
    const int tile = (firstRow + first) / 16, n = std::min(16, count - first);
    std::fill(q.begin(), q.end(), uint8_t{0});
    for (int r = 0; r < n; ++r)
      for (int g = 0; g < groups; ++g) {
        const std::byte* block = rowBlocks + static_cast<size_t>(first + r) * rowStride + static_cast<size_t>(g * blockBytes);
        const size_t at = (static_cast<size_t>(tile) * static_cast<size_t>(groups) + static_cast<size_t>(g)) * 16 + static_cast<size_t>(r);
        std::memcpy(const_cast<uint16_t*>(out.scales) + at, block, 2);
        if (layout.min >= 0) std::memcpy(const_cast<uint16_t*>(out.mins) + at, block + layout.min, 2);
        decodeCodes(type, layout, block, q.data() + static_cast<size_t>(r) * static_cast<size_t>(out.cols) + g * 32);
      }
    packTile(out, tile, q.data());
  }
  return true;
}

}  // namespace winnow
