// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/blocks.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/core/check.h"
#include "engine/model/decode.h"

namespace winnow {
namespace {

// Offsets in a block; absent parts are -1. The f16 scale comes first.
struct Layout {
  int min, steps, high, codes;
};
Layout layoutOf(DType type) {
  switch (type) {
    case DType::q4_1: return {2, -1, -1, 4};
    case DType::q5_0: return {-1, -1, 2, 6};
    case DType::q5_1: return {2, -1, 4, 8};
    case DType::q4_k: return {2, 4, -1, 16};
    case DType::q5_k: return {2, 4, 16, 48};
    default: return {-1, -1, -1, 2};
  }
}

// Codes of a block of 32.
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

// Codes of a block of 256: 32 bytes hold two sub-blocks of 32 in their nibbles, the fifth bit of sub-block s is bit s of 32 bytes.
void decodeSuperCodes(const Layout& layout, const std::byte* block, uint8_t* q) {
  const auto* codes = reinterpret_cast<const uint8_t*>(block) + layout.codes;
  for (int sub = 0; sub < 8; sub += 2)
    for (int k = 0; k < 32; ++k) {
      q[32 * sub + k] = codes[16 * sub + k] & 15;
      q[32 * sub + 32 + k] = codes[16 * sub + k] >> 4;
    }
  if (layout.high < 0) return;
  const auto* high = reinterpret_cast<const uint8_t*>(block) + layout.high;
  for (int sub = 0; sub < 8; ++sub)
    for (int k = 0; k < 32; ++k) q[32 * sub + k] |= static_cast<uint8_t>((high[k] >> sub & 1) << 4);
}

// Codes and multiples of a block of q3_k or q6_k, 16 sub-blocks of 16 (engine/model/decode.cpp has the layouts).
void decodeSixteenths(DType type, const uint8_t* block, uint8_t* q, uint8_t* steps) {
  for (int sub = 0; sub < 16; ++sub, q += 16, steps += 16) {
    const int half = sub / 8, step = sub % 8 / 2, first = sub % 2 * 16;
    if (type == DType::q6_k) {
      const uint8_t *low = block + 64 * half + step % 2 * 32 + first, *high = block + 128 + 32 * half + first;
      for (int l = 0; l < 16; ++l) q[l] = static_cast<uint8_t>((low[l] >> (step / 2 * 4) & 15) | (high[l] >> (2 * step) & 3) << 4);
      *steps = static_cast<uint8_t>(block[192 + sub] ^ 0x80);
    } else {
      const uint8_t *low = block + 32 + 32 * half + first, *high = block + first, *scales = block + 96;
      for (int l = 0; l < 16; ++l) q[l] = static_cast<uint8_t>((low[l] >> (2 * step) & 3) | (high[l] >> (sub / 2) & 1) << 2);
      const int nibble = sub < 8 ? scales[sub] & 15 : scales[sub - 8] >> 4, top = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
      *steps = static_cast<uint8_t>((nibble | top << 4) - 32 + 128);
    }
  }
}

// One row of blocks that have neither minimum nor a scale in front, as decodeRow.
bool decodeOtherRow(DType type, const std::byte* blocks, int tile, int r, Matrix& out, uint8_t* q) {
  if (type != DType::q3_k && type != DType::q6_k && type != DType::mxfp4) return false;
  const DTypeTraits traits = dtypeTraits(type);
  const int count = out.cols / traits.blockValues, perBlock = traits.blockValues / out.format.group;
  for (int b = 0; b < count; ++b, blocks += traits.blockBytes, q += traits.blockValues) {
    const size_t at = static_cast<size_t>(tile) * static_cast<size_t>(count) + static_cast<size_t>(b);
    uint8_t* steps = const_cast<uint8_t*>(out.steps) + at * static_cast<size_t>(perBlock) * 16 + r;
    const auto* bytes = reinterpret_cast<const uint8_t*>(blocks);
    if (type == DType::mxfp4) {
      *steps = bytes[0];
      decodeCodes(type, {-1, -1, -1, 1}, blocks, q);
      continue;
    }
    std::memcpy(const_cast<uint16_t*>(out.scales) + at * 16 + r, blocks + traits.blockBytes - 2, 2);
    decodeSixteenths(type, bytes, q, steps);
  }
  return true;
}

// One row of blocks into row r of a tile's scales, minimums and steps, and its codes into q.
void decodeRow(DType type, const std::byte* blocks, int tile, int r, Matrix& out, uint8_t* q) {
  if (decodeOtherRow(type, blocks, tile, r, out, q)) return;
  const Layout layout = layoutOf(type);
  const DTypeTraits traits = dtypeTraits(type);
  const int count = out.cols / traits.blockValues;
  for (int b = 0; b < count; ++b, blocks += traits.blockBytes, q += traits.blockValues) {
    const size_t group = static_cast<size_t>(tile) * static_cast<size_t>(count) + static_cast<size_t>(b);  // or super-block
    const size_t at = group * 16 + static_cast<size_t>(r);
    std::memcpy(const_cast<uint16_t*>(out.scales) + at, blocks, 2);
    uint16_t* min = const_cast<uint16_t*>(out.mins) + at;
    if (layout.min >= 0) std::memcpy(min, blocks + layout.min, 2);
    if (layout.steps < 0) {
      decodeCodes(type, layout, blocks, q);
      continue;
    }
    *min ^= 0x8000;  // the file subtracts
    uint8_t* steps = const_cast<uint8_t*>(out.steps) + group * 256 + r;
    for (int sub = 0; sub < 8; ++sub, steps += 32) {
      const SubBlockScale s = subBlockScale(blocks + layout.steps, sub);
      steps[0] = static_cast<uint8_t>(s.scale);
      steps[16] = static_cast<uint8_t>(s.min);
    }
    decodeSuperCodes(layout, blocks, q);
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
    case DType::q4_k: return WeightFormat{Storage::packed, 4, 32, false, 256};
    case DType::q5_k: return WeightFormat{Storage::packed, 5, 32, false, 256};
    case DType::q3_k: return WeightFormat{Storage::packed, 3, 16, true, 256};
    case DType::q6_k: return WeightFormat{Storage::packed, 6, 16, true, 256};
    case DType::mxfp4: return WeightFormat{Storage::packed, 4, 32, true, 0, Code::e2m1};
    default: return std::nullopt;
  }
}

bool packBlocksExactly(DType type, const std::byte* rowBlocks, size_t rowStride, int count, int firstRow, Matrix& out) {
  const auto format = exactFormat(type);
  if (!format || *format != out.format || out.cols % dtypeTraits(type).blockValues != 0) return false;
  CHECK(firstRow % 16 == 0 && firstRow + count <= out.rows, firstRow, count, out.rows);
  const size_t cols = static_cast<size_t>(out.cols);
  std::vector<uint8_t> q(16 * cols);
  for (int first = 0; first < count; first += 16) {
    const int tile = (firstRow + first) / 16, n = std::min(16, count - first);
    std::fill(q.begin(), q.end(), uint8_t{0});
    for (int r = 0; r < n; ++r)
      decodeRow(type, rowBlocks + static_cast<size_t>(first + r) * rowStride, tile, r, out, q.data() + static_cast<size_t>(r) * cols);
    packTile(out, tile, q.data());
  }
  return true;
}

}  // namespace winnow
