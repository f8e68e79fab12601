// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/matrix.h"

#include <algorithm>
#include <cstring>

#include "engine/core/check.h"
#include "engine/core/dtype.h"

namespace winnow {
namespace {

constexpr int kTileRows = WeightFormat::kTileRows, kChunk = WeightFormat::kChunk;

size_t elementBytes(Storage storage) { return storage == Storage::f32 ? 4 : 2; }
size_t tiles(int rows) { return (static_cast<size_t>(rows) + kTileRows - 1) / kTileRows; }
size_t chunkBytes(int bits) { return size_t{64} * static_cast<size_t>(bits); }

bool bitsSupported(int bits) { return bits == 8 || (bits >= 2 && bits <= 6); }

// The planes of a format, low bits first: 8; 6 = 4 + 2; 5 = 4 + 1; 4; 3 = 2 + 1; 2.
struct Planes {
  int width[2];
  int count;
};
Planes planesOf(int bits) {
  switch (bits) {
    case 8: return {{8, 0}, 1};
    case 6: return {{4, 2}, 2};
    case 5: return {{4, 1}, 2};
    case 4: return {{4, 0}, 1};
    case 3: return {{2, 1}, 2};
    default: return {{2, 0}, 1};
  }
}
// Value k of a chunk sits in sub-block p = (k / 4) % (its count), byte 4r + k % 4, at bit (k / 4) / count * width. A plane of
// width w has w sub-blocks of 64 bytes.
struct Place {
  size_t byte;
  int shift;
};
Place placeOf(int width, int row, int k) {
  const int dword = k / 4, p = dword % width;
  return {static_cast<size_t>(64 * p + 4 * row + k % 4), dword / width * width};
}

uint8_t* tileCodes(const Matrix& m, int tile) {
  const size_t bytes = static_cast<size_t>(WeightFormat::chunks(m.cols)) * chunkBytes(m.format.bits);
  return const_cast<uint8_t*>(static_cast<const uint8_t*>(m.data)) + static_cast<size_t>(tile) * bytes;
}

}  // namespace

std::string WeightFormat::describe() const {
  switch (storage) {
    case Storage::f32: return "f32";
    case Storage::f16: return "f16";
    case Storage::bf16: return "bf16";
    case Storage::packed: break;
  }
  return std::to_string(bits) + " bit " + (group == 0 ? std::string("per row") : "g" + std::to_string(group)) + (symmetric ? " sym" : " asym");
}

size_t WeightFormat::codeBytes(int rows, int cols) const {
  return storage == Storage::packed ? tiles(rows) * static_cast<size_t>(chunks(cols)) * chunkBytes(bits) : 0;
}

size_t WeightFormat::scaleBytes(int rows, int cols) const {
  return storage == Storage::packed ? tiles(rows) * static_cast<size_t>(groups(cols)) * kTileRows * sizeof(uint16_t) : 0;
}

size_t WeightFormat::bytes(int rows, int cols) const {
  if (storage != Storage::packed) return static_cast<size_t>(rows) * static_cast<size_t>(cols) * elementBytes(storage);
  return codeBytes(rows, cols) + scaleBytes(rows, cols) * (symmetric ? 1 : 2);
}

Matrix Matrix::allocate(Ledger& ledger, const WeightFormat& format, int rows, int cols) {
  CHECK(rows > 0 && cols > 0, rows, cols);
  Matrix m;
  m.format = format;
  m.rows = rows;
  m.cols = cols;
  if (format.storage != Storage::packed) {
    m.codes = Buffer(ledger, MemoryTag::weights, format.bytes(rows, cols));
  } else {
    CHECK(bitsSupported(format.bits), static_cast<int>(format.bits));
    CHECK(format.group % kChunk == 0, format.group);
    m.codes = Buffer(ledger, MemoryTag::weights, format.codeBytes(rows, cols));
    m.scaleBuffer = Buffer(ledger, MemoryTag::weights, format.scaleBytes(rows, cols));
    m.scales = m.scaleBuffer.as<uint16_t>();
    if (!format.symmetric) {
      m.minBuffer = Buffer(ledger, MemoryTag::weights, format.scaleBytes(rows, cols));
      m.mins = m.minBuffer.as<uint16_t>();
    }
  }
  m.data = m.codes.data();
  return m;
}

void packTile(Matrix& matrix, int tile, const uint8_t* q) {
  const Planes planes = planesOf(matrix.format.bits);
  const int cols = matrix.cols, chunks = WeightFormat::chunks(cols);
  uint8_t* out = tileCodes(matrix, tile);
  std::memset(out, 0, static_cast<size_t>(chunks) * chunkBytes(matrix.format.bits));
  for (int chunk = 0; chunk < chunks; ++chunk, out += chunkBytes(matrix.format.bits)) {
    const int count = std::min(kChunk, cols - chunk * kChunk);
    for (int r = 0; r < kTileRows; ++r) {
      const uint8_t* row = q + static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(chunk) * kChunk;
      for (int k = 0; k < count; ++k) {
        int low = 0;
        size_t plane = 0;
        for (int i = 0; i < planes.count; ++i) {
          const int width = planes.width[i];
          const Place place = placeOf(width, r, k);
          out[plane + place.byte] |= static_cast<uint8_t>((row[k] >> low & ((1 << width) - 1)) << place.shift);
          low += width;
          plane += static_cast<size_t>(64 * width);
        }
      }
    }
  }
}

void unpackTile(const Matrix& matrix, int tile, uint8_t* q) {
  const Planes planes = planesOf(matrix.format.bits);
  const int cols = matrix.cols, chunks = WeightFormat::chunks(cols);
  const uint8_t* in = tileCodes(matrix, tile);
  for (int chunk = 0; chunk < chunks; ++chunk, in += chunkBytes(matrix.format.bits)) {
    const int count = std::min(kChunk, cols - chunk * kChunk);
    for (int r = 0; r < kTileRows; ++r) {
      uint8_t* row = q + static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(chunk) * kChunk;
      for (int k = 0; k < count; ++k) {
        int low = 0, value = 0;
        size_t plane = 0;
        for (int i = 0; i < planes.count; ++i) {
          const int width = planes.width[i];
          const Place place = placeOf(width, r, k);
          value |= (in[plane + place.byte] >> place.shift & ((1 << width) - 1)) << low;
          low += width;
          plane += static_cast<size_t>(64 * width);
        }
        row[k] = static_cast<uint8_t>(value);
      }
    }
  }
}

namespace {

void dequantizePackedRow(const Matrix& m, int row, float* out) {
  const Planes planes = planesOf(m.format.bits);
  const int tile = row / kTileRows, r = row % kTileRows, group = m.format.groupCols(m.cols), groups = m.format.groups(m.cols);
  const uint8_t* in = tileCodes(m, tile);
  const float offset = static_cast<float>(1 << (m.format.bits - 1));
  for (int k = 0; k < m.cols; ++k) {
    const uint8_t* chunk = in + static_cast<size_t>(k / kChunk) * chunkBytes(m.format.bits);
    int low = 0, value = 0;
    for (int i = 0; i < planes.count; ++i) {
      const Place place = placeOf(planes.width[i], r, k % kChunk);
      value |= (chunk[place.byte] >> place.shift & ((1 << planes.width[i]) - 1)) << low;
      low += planes.width[i];
      chunk += 64 * planes.width[i];
    }
    const size_t at = (static_cast<size_t>(tile) * static_cast<size_t>(groups) + static_cast<size_t>(k / group)) * kTileRows + static_cast<size_t>(r);
    const float scale = f16ToFloat(m.scales[at]);
    // Symmetric: the difference is an integer, so one product is the exact value rounded once.
    out[k] = m.mins ? scale * static_cast<float>(value) + f16ToFloat(m.mins[at]) : scale * (static_cast<float>(value) - offset);
  }
}

}  // namespace

void dequantizeRow(const Matrix& matrix, int row, float* out) {
  const size_t begin = static_cast<size_t>(row) * static_cast<size_t>(matrix.cols);
  switch (matrix.format.storage) {
    case Storage::f32: std::memcpy(out, static_cast<const float*>(matrix.data) + begin, static_cast<size_t>(matrix.cols) * 4); break;
    case Storage::f16: {
      const uint16_t* in = static_cast<const uint16_t*>(matrix.data) + begin;
      for (int k = 0; k < matrix.cols; ++k) out[k] = f16ToFloat(in[k]);
      break;
    }
    case Storage::bf16: {
      const uint16_t* in = static_cast<const uint16_t*>(matrix.data) + begin;
      for (int k = 0; k < matrix.cols; ++k) out[k] = bf16ToFloat(in[k]);
      break;
    }
    case Storage::packed: dequantizePackedRow(matrix, row, out); break;
  }
}

}  // namespace winnow
