// SPDX-License-Identifier: GPL-3.0-or-later
// A weight matrix as kernels read it, y[rows] = W[rows][cols] x[cols]. Two shapes of storage:
//
// * Plain (f32, f16, bf16): row-major, either mapped from the file or in a Buffer; or without their zeros (sparse_rows.h).
// * Packed (codes of 2..8 bits, group-wise): tiles of 16 rows so that a dword of 4 consecutive k-values of each row sits
//   in one lane and no horizontal sum is needed (engines.md B.5, quantization_and_kv.md 7.2). Codes are unsigned; symmetric
//   codes carry the offset 2^(bits-1). value = scale * code + min, min = -scale * 2^(bits-1) when symmetric (not stored).
//   Codes that are no integers stand for a table of values (engine/quantize/code_format.h): value = scale * table[code].
//   Per tile and per 32 k-values (the last chunk of a row is padded with code 0 and x counts as 0 there):
//     8 bit   8 sub-blocks of 64 bytes, byte[p][4r+b] = q[r][4p+b]
//     4 bit   4 sub-blocks of 64 bytes, byte[p][4r+b] = q[r][4p+b] | q[r][16+4p+b] << 4
//     2 bit   2 sub-blocks of 64 bytes, byte[p][4r+b] = q[r][4p+b] | q[r][8+4p+b] << 2 | q[r][16+4p+b] << 4 | q[r][24+4p+b] << 6
//     3 bit   2-bit plane, then a plane of bit 2: 1 sub-block of 64 bytes, bit p of byte[4r+b] = q[r][4p+b] >> 2 & 1
//     5 bit   4-bit plane, then a plane of bit 4 (as above, q >> 4 & 1)
//     6 bit   4-bit plane, then a 2-bit plane of q >> 4
//   Scales and mins are f16, [tile][group][16]; a group is 32, 64, 128 values or the whole row, the last may be short.
//   With super-blocks (K-quants of GGUF files) scales and mins are f16 per super-block of 256 values, [tile][super-block][16], and each
//   group has 8-bit multiples of them, exact in f32: with minimums steps [tile][group][2][16], scale = steps[0] * scales and
//   min = steps[1] * mins; symmetric ones steps [tile][group][16], scale = (steps - 128) * scales. Their groups may be of 16 values.
//   Scales that are powers of two (E8M0) are exponents alone: no scales, steps [tile][group][16], scale = 2^(steps - 127).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/core/memory.h"

namespace winnow {

enum class Storage : uint8_t { f32, f16, bf16, packed };

// What a packed code stands for. e4m3, e5m2, e2m1: floats of so many exponent and mantissa bits.
enum class Code : uint8_t { integer, nf4, e4m3, e5m2, e2m1 };

struct WeightFormat {
  Storage storage = Storage::f32;
  uint8_t bits = 32;      // packed: 2, 3, 4, 5, 6, 8
  uint16_t group = 0;     // packed: 32, 64, 128, in symmetric super-blocks also 16; 0 = the whole row
  bool symmetric = true;  // packed
  Code code = Code::integer;
  uint16_t super = 0;     // packed: values of a super-block, a multiple of the group; 0 = none
  bool sparse = false;    // plain: zeros are not stored
  float kept = 1;         // sparse: share of the weights that are no zeros, as far as a plan knows it
  constexpr WeightFormat() = default;
  constexpr WeightFormat(Storage in, uint8_t width, uint16_t values, bool centred, uint16_t superValues = 0, Code codes = Code::integer)
      : storage(in), bits(width), group(values), symmetric(centred), code(codes), super(superValues) {}
  bool operator==(const WeightFormat&) const = default;

  std::string describe() const;  // "bf16", "bf16 sparse", "4 bit g32 sym", "4 bit g32/256 asym", "nf4 g64"
  static constexpr int kTileRows = 16, kChunk = 32;
  int groupCols(int cols) const { return group == 0 ? cols : group; }
  int groups(int cols) const { return group == 0 ? 1 : (cols + group - 1) / group; }
  int scaleGroups(int cols) const { return super == 0 ? groups(cols) : (cols + super - 1) / super; }  // f16 scales per row
  bool exponents() const { return code == Code::e2m1; }  // instead of scales
  bool dotsInt8() const { return storage == Storage::packed && code != Code::e4m3 && code != Code::e5m2; }  // products with 8-bit integers
  int stepsPerGroup() const { return super > 0 && !symmetric ? 2 : super > 0 || exponents() ? 1 : 0; }
  int zeroCode() const;  // of a symmetric format
  size_t elementBytes() const { return storage == Storage::f32 ? 4 : 2; }  // plain
  static int chunks(int cols) { return (cols + kChunk - 1) / kChunk; }
  size_t codeBytes(int rows, int cols) const;   // packed codes of the whole matrix
  size_t scaleBytes(int rows, int cols) const;  // scales alone; mins are as many bytes when !symmetric
  size_t stepBytes(int rows, int cols) const;   // of super-blocks and exponents
  size_t keptOf(size_t values) const;           // sparse: how many of them a plan counts
  size_t bytes(int rows, int cols) const;       // all of it
};

struct SparseRows {
  const void* values = nullptr;      // [count], row after row
  const uint32_t* starts = nullptr;  // [rows + 1] where the values of a row begin
  const uint8_t* mask = nullptr;     // [rows][sparseMaskBytes(cols)], bit c % 8 of byte c / 8
  size_t count = 0;
};

struct Matrix {
  WeightFormat format;
  int rows = 0, cols = 0;
  const void* data = nullptr;        // plain: [rows][cols]; packed: codes; null where sparse
  const uint16_t* scales = nullptr;  // f16 [tile][group or super-block][16], null with exponents
  const uint16_t* mins = nullptr;    // the same, null when symmetric
  const uint8_t* steps = nullptr;    // [tile][group][stepsPerGroup][16], null without
  SparseRows sparse;                 // where the format is
  // Owners; empty when the data is mapped.
  Buffer codes, scaleBuffer, minBuffer, stepBuffer;

  size_t bytes() const;
  bool mapped() const { return codes.bytes() == 0; }

  // Allocates (or, under a planning ledger, counts) and leaves the values to the caller.
  static Matrix allocate(Ledger& ledger, const WeightFormat& format, int rows, int cols);
};

// Writes codes q [16][cols] (row-major, unsigned, rows past the end zero) into tile `tile` of the matrix.
void packTile(Matrix& matrix, int tile, const uint8_t* q);
// And back: the codes of a tile, [16][cols].
void unpackTile(const Matrix& matrix, int tile, uint8_t* q);
// One row as f32, any storage. Slow and simple: reference, embedding look-up, statistics.
void dequantizeRow(const Matrix& matrix, int row, float* out);

// What a packed weight lacks of its exact value.
struct WeightCorrection {
  int row, column;
  float delta;
  bool operator==(const WeightCorrection&) const = default;
};

}  // namespace winnow
