// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/core/check.h"
#include "engine/weights/blocks.h"
#include "engine/weights/export.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows, kBlock = 32;

// 32 codes as a block writes them; `shift` moves a narrow symmetric code to the middle of the wider range.
void putCodes(DType type, const uint8_t* q, int shift, std::byte* out) {
  if (type == DType::q8_0) {
    for (int k = 0; k < kBlock; ++k) out[k] = static_cast<std::byte>(static_cast<int8_t>(q[k] + shift));
    return;
  }
  const bool fifth = type == DType::q5_0 || type == DType::q5_1;
  if (fifth) {
    uint32_t high = 0;
    for (int k = 0; k < kBlock; ++k) high |= static_cast<uint32_t>(q[k] >> 4 & 1) << k;
    std::memcpy(out, &high, 4);
    out += 4;
  }
  for (int k = 0; k < kBlock / 2; ++k)
    out[k] = static_cast<std::byte>(((q[k] + shift) & 15) | ((q[k + kBlock / 2] + shift) & 15) << 4);
}

}  // namespace

std::optional<DType> exactBlockType(const WeightFormat& format, int cols) {
  if (format == exactFormat(DType::mxfp4) && cols % kBlock == 0) return DType::mxfp4;
  // Whatever a format has besides these four has no place in a block.
  if (format != WeightFormat{Storage::packed, format.bits, format.group, format.symmetric} || cols % kBlock != 0) return std::nullopt;
  switch (format.bits) {
    case 8:
    case 6: return format.symmetric ? std::optional(DType::q8_0) : std::nullopt;
    case 5: return format.symmetric ? DType::q5_0 : DType::q5_1;
    default: return format.symmetric ? DType::q4_0 : DType::q4_1;
  }
}

void encodeBlocks(const Matrix& m, DType type, int first, int count, std::byte* out) {
  CHECK(first % kTile == 0 && first + count <= m.rows && exactBlockType(m.format, m.cols) == type, first, count, m.format.describe());
  const int groups = m.format.groups(m.cols), groupCols = m.format.groupCols(m.cols), blocks = m.cols / kBlock;
  const int zero = 1 << (m.format.bits - 1);
  const int middle = type == DType::q8_0 ? 0 : type == DType::q5_0 ? 16 : 8;
  const int shift = m.format.symmetric ? middle - zero : 0;
  const size_t blockBytes = static_cast<size_t>(dtypeTraits(type).blockBytes), cols = static_cast<size_t>(m.cols);
  std::vector<uint8_t> q(static_cast<size_t>(kTile) * cols);
  for (int row = first; row < first + count; ++row) {
    const int tile = row / kTile, r = row % kTile;
    if (r == 0 || row == first) unpackTile(m, tile, q.data());
    for (int b = 0; b < blocks; ++b, out += blockBytes) {
      const size_t group = static_cast<size_t>(tile) * static_cast<size_t>(groups) + static_cast<size_t>(b * kBlock / groupCols);
      const size_t at = group * kTile + static_cast<size_t>(r);
      if (m.format.exponents()) {
        out[0] = static_cast<std::byte>(m.steps[at]);
        putCodes(type, q.data() + static_cast<size_t>(r) * cols + static_cast<size_t>(b) * kBlock, 0, out + 1);
        continue;
      }
      std::memcpy(out, m.scales + at, 2);
      if (m.mins) std::memcpy(out + 2, m.mins + at, 2);
      putCodes(type, q.data() + static_cast<size_t>(r) * cols + static_cast<size_t>(b) * kBlock, shift, out + (m.mins ? 4 : 2));
    }
  }
}

}  // namespace winnow
