// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/quantize/code_format.h"
#include "engine/weights/group_scale.h"
#include "engine/weights/sparse_rows.h"

namespace winnow {
namespace {

constexpr int kTileRows = WeightFormat::kTileRows, kChunk = WeightFormat::kChunk;

size_t tiles(int rows) { return (static_cast<size_t>(rows) + kTileRows - 1) / kTileRows; }
size_t chunkBytes(int bits) { return size_t{64} * static_cast<size_t>(bits); }

bool bitsSupported(int bits) { return bits == 8 || (bits >= 2 && bits <= 6); }

// Codes travel as dwords of 4 bytes, 8 dwords to a chunk of a row. A plane of `width` bits at bit `low` of the code: dword p of the
// plane holds, shifted by i * width, dword i * count + p of the chunk, count = width (a plane of w bits has w sub-blocks).
struct Plane {
  int width, low;
};
constexpr Plane kPlanes[9][2] = {{}, {}, {{2, 0}}, {{2, 0}, {1, 2}}, {{4, 0}}, {{4, 0}, {1, 4}}, {{4, 0}, {2, 4}}, {}, {{8, 0}}};

constexpr uint32_t everyByte(int value) { return static_cast<uint32_t>(value) * 0x01010101u; }

template <int width, int low>
void packPlane(const uint32_t (&d)[16][8], uint32_t* out) {  // out [width][16]
  for (int p = 0; p < width; ++p)
    for (int r = 0; r < 16; ++r) {
      uint32_t word = 0;
      for (int i = 0; i < 8 / width; ++i) word |= (d[r][i * width + p] >> low & everyByte((1 << width) - 1)) << (i * width);
      out[p * 16 + r] = word;
    }
}
void packChunk(int bits, const uint32_t (&d)[16][8], uint32_t* out) {
  switch (bits) {
    case 8: return packPlane<8, 0>(d, out);
    case 6: packPlane<4, 0>(d, out); return packPlane<2, 4>(d, out + 64);
    case 5: packPlane<4, 0>(d, out); return packPlane<1, 4>(d, out + 64);
    case 4: return packPlane<4, 0>(d, out);
    case 3: packPlane<2, 0>(d, out); return packPlane<1, 2>(d, out + 32);
    default: return packPlane<2, 0>(d, out);
  }
}

// The 32 codes of row r of a chunk.
void unpackRow(int bits, const uint8_t* chunk, int r, uint8_t* q) {
  uint32_t d[8] = {};
  for (const Plane& plane : kPlanes[bits]) {
    for (int p = 0; p < plane.width; ++p) {
      uint32_t word;
      std::memcpy(&word, chunk + 64 * p + 4 * r, 4);
      for (int i = 0; i < 8 / plane.width; ++i)
        d[i * plane.width + p] |= (word >> (i * plane.width) & everyByte((1 << plane.width) - 1)) << plane.low;
    }
    chunk += 64 * plane.width;
  }
  std::memcpy(q, d, sizeof d);
}

uint8_t* tileCodes(const Matrix& m, int tile) {
  const size_t bytes = static_cast<size_t>(WeightFormat::chunks(m.cols)) * chunkBytes(m.format.bits);
  return const_cast<uint8_t*>(static_cast<const uint8_t*>(m.data)) + static_cast<size_t>(tile) * bytes;
}

}  // namespace

std::string WeightFormat::describe() const {
  const char* zeros = sparse ? " sparse" : "";
  switch (storage) {
    case Storage::f32: return std::string("f32") + zeros;
    case Storage::f16: return std::string("f16") + zeros;
    case Storage::bf16: return std::string("bf16") + zeros;
    case Storage::packed: break;
  }
  const CodeFormat* named = findCodeFormat(code);
  if (named) return named->name + (named->fixedGroup ? "" : group == 0 ? " per row" : " g" + std::to_string(group));
  return std::to_string(bits) + " bit " + (group == 0 ? std::string("per row") : "g" + std::to_string(group)) +
         (super == 0 ? "" : "/" + std::to_string(super)) + (symmetric ? " sym" : " asym");
}

size_t WeightFormat::codeBytes(int rows, int cols) const {
  return storage == Storage::packed ? tiles(rows) * static_cast<size_t>(chunks(cols)) * chunkBytes(bits) : 0;
}

size_t WeightFormat::scaleBytes(int rows, int cols) const {
  if (storage != Storage::packed || exponents()) return 0;
  return tiles(rows) * static_cast<size_t>(scaleGroups(cols)) * kTileRows * sizeof(uint16_t);
}

size_t WeightFormat::stepBytes(int rows, int cols) const {
  return tiles(rows) * static_cast<size_t>(groups(cols)) * kTileRows * static_cast<size_t>(stepsPerGroup());
}

int WeightFormat::zeroCode() const {
  CHECK(symmetric);
  const CodeFormat* format = findCodeFormat(code);
  return format ? format->zero : 1 << (bits - 1);
}

size_t WeightFormat::bytes(int rows, int cols) const {
  const size_t values = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  if (sparse) return sparseBytes(rows, cols, keptOf(values), elementBytes());
  if (storage != Storage::packed) return values * elementBytes();
  return codeBytes(rows, cols) + scaleBytes(rows, cols) * (symmetric ? 1 : 2) + stepBytes(rows, cols);
}

size_t WeightFormat::keptOf(size_t values) const { return static_cast<size_t>(std::ceil(static_cast<double>(kept) * static_cast<double>(values))); }

size_t Matrix::bytes() const { return format.sparse ? sparseBytes(rows, cols, sparse.count, format.elementBytes()) : format.bytes(rows, cols); }

Matrix Matrix::allocate(Ledger& ledger, const WeightFormat& format, int rows, int cols) {
  CHECK(rows > 0 && cols > 0, rows, cols);
  if (format.sparse) return allocateSparse(ledger, format, rows, cols, format.keptOf(static_cast<size_t>(rows) * static_cast<size_t>(cols)));
  Matrix m;
  m.format = format;
  m.rows = rows;
  m.cols = cols;
  if (format.storage != Storage::packed) {
    m.codes = Buffer(ledger, MemoryTag::weights, format.bytes(rows, cols));
  } else {
    CHECK(bitsSupported(format.bits), static_cast<int>(format.bits));
    CHECK(format.group % kChunk == 0 || (format.group == kChunk / 2 && format.symmetric && format.super > 0 && cols % kChunk == 0), format.group, cols);
    CHECK(format.super == 0 || (format.group > 0 && format.super % format.group == 0), format.super);
    CHECK(format.code == Code::integer || (format.symmetric && format.super == 0), format.describe());
    m.codes = Buffer(ledger, MemoryTag::weights, format.codeBytes(rows, cols));
    if (const size_t bytes = format.scaleBytes(rows, cols); bytes > 0) {
      m.scaleBuffer = Buffer(ledger, MemoryTag::weights, bytes);
      m.scales = m.scaleBuffer.as<uint16_t>();
    }
    if (!format.symmetric) {
      m.minBuffer = Buffer(ledger, MemoryTag::weights, format.scaleBytes(rows, cols));
      m.mins = m.minBuffer.as<uint16_t>();
    }
    if (const size_t bytes = format.stepBytes(rows, cols); bytes > 0) {
      m.stepBuffer = Buffer(ledger, MemoryTag::weights, bytes);
      m.steps = m.stepBuffer.as<uint8_t>();
    }
  }
  m.data = m.codes.data();
  return m;
}

void packTile(Matrix& matrix, int tile, const uint8_t* q) {
  const int cols = matrix.cols, chunks = WeightFormat::chunks(cols), bits = matrix.format.bits;
  uint8_t* out = tileCodes(matrix, tile);
  for (int chunk = 0; chunk < chunks; ++chunk, out += chunkBytes(bits)) {
    const size_t count = static_cast<size_t>(std::min(kChunk, cols - chunk * kChunk));
    uint32_t d[16][8] = {}, words[128];
    for (size_t r = 0; r < kTileRows; ++r) {
      const uint8_t* row = q + r * static_cast<size_t>(cols) + static_cast<size_t>(chunk) * kChunk;
      count == kChunk ? std::memcpy(d[r], row, kChunk) : std::memcpy(d[r], row, count);  // a constant size is two moves
    }
    packChunk(bits, d, words);
    std::memcpy(out, words, chunkBytes(bits));
  }
}

void unpackTile(const Matrix& matrix, int tile, uint8_t* q) {
  const int cols = matrix.cols, chunks = WeightFormat::chunks(cols), bits = matrix.format.bits;
  const uint8_t* in = tileCodes(matrix, tile);
  for (int chunk = 0; chunk < chunks; ++chunk, in += chunkBytes(bits))
    for (int r = 0; r < kTileRows; ++r) {
      uint8_t codes[kChunk];
      unpackRow(bits, in, r, codes);
      std::memcpy(q + static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(chunk) * kChunk, codes,
                  static_cast<size_t>(std::min(kChunk, cols - chunk * kChunk)));
    }
}

namespace {

GroupScale scaleMinOf(const Matrix& m, int tile, int group, int r) {
  const WeightFormat& f = m.format;
  const auto place = [&](int perRow, int index) {
    return (static_cast<size_t>(tile) * static_cast<size_t>(perRow) + static_cast<size_t>(index)) * kTileRows + static_cast<size_t>(r);
  };
  const size_t step = place(f.stepsPerGroup() * f.groups(m.cols), f.stepsPerGroup() * group);
  if (f.exponents()) return {std::ldexp(1.0f, m.steps[step] - 127), 0};
  const size_t at = place(f.scaleGroups(m.cols), f.super == 0 ? group : group * f.group / f.super);
  GroupScale out{f16ToFloat(m.scales[at]), m.mins ? f16ToFloat(m.mins[at]) : 0.0f};
  if (m.steps && f.symmetric) {
    out.scale *= static_cast<float>(m.steps[step] - 128);
  } else if (m.steps) {
    out.scale *= m.steps[step];
    out.min *= m.steps[step + kTileRows];
  }
  return out;
}

void dequantizePackedRow(const Matrix& m, int row, float* out) {
  const int tile = row / kTileRows, r = row % kTileRows;
  const int part = std::min(kChunk, m.format.groupCols(m.cols));  // of a chunk that has one scale
  const CodeFormat* format = findCodeFormat(m.format.code);
  const uint8_t* in = tileCodes(m, tile);
  const float offset = m.mins ? 0.0f : static_cast<float>(1 << (m.format.bits - 1));
  for (int chunk = 0; chunk * kChunk < m.cols; ++chunk, in += chunkBytes(m.format.bits)) {
    uint8_t codes[kChunk];
    unpackRow(m.format.bits, in, r, codes);
    for (int begin = chunk * kChunk; begin < std::min((chunk + 1) * kChunk, m.cols); begin += part) {
      const auto [scale, min] = scaleMinOf(m, tile, begin / m.format.groupCols(m.cols), r);
      const int count = std::min(part, m.cols - begin);
      const uint8_t* q = codes + begin % kChunk;
      // Symmetric: the difference is an integer, so one product is the exact value (11 and 8 significant bits).
      for (int k = 0; k < count; ++k) out[begin + k] = format ? scale * format->values[q[k]] : scale * (static_cast<float>(q[k]) - offset) + min;
    }
  }
}

}  // namespace

GroupScale groupScaleOf(const Matrix& matrix, int row, int group) { return scaleMinOf(matrix, row / kTileRows, group, row % kTileRows); }

namespace {

void widen(const WeightFormat& format, const void* in, int cols, float* out) {
  if (format.storage == Storage::f32) {
    std::memcpy(out, in, static_cast<size_t>(cols) * 4);
    return;
  }
  const auto* halves = static_cast<const uint16_t*>(in);
  for (int k = 0; k < cols; ++k) out[k] = format.storage == Storage::f16 ? f16ToFloat(halves[k]) : bf16ToFloat(halves[k]);
}

}  // namespace

void dequantizeRow(const Matrix& matrix, int row, float* out) {
  if (matrix.format.storage == Storage::packed) return dequantizePackedRow(matrix, row, out);
  if (matrix.format.sparse) {
    std::vector<std::byte> expanded(static_cast<size_t>(matrix.cols) * matrix.format.elementBytes());
    expandRow(matrix, row, expanded.data());
    return widen(matrix.format, expanded.data(), matrix.cols, out);
  }
  const size_t begin = static_cast<size_t>(row) * static_cast<size_t>(matrix.cols);
  widen(matrix.format, static_cast<const std::byte*>(matrix.data) + begin * matrix.format.elementBytes(), matrix.cols, out);
}

}  // namespace winnow
