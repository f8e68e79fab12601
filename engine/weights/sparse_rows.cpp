// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/sparse_rows.h"

#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "engine/core/check.h"

namespace winnow {
namespace {

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }
size_t startBytes(int rows) { return (static_cast<size_t>(rows) + 1) * sizeof(uint32_t); }

// The bits of a row's weights that are not zero; returns how many they are.
template <class Element>
uint32_t maskOf(const Element* row, int cols, Element magnitude /* all bits but the sign */, uint8_t* mask) {
  uint32_t count = 0;
  std::memset(mask, 0, sparseMaskBytes(cols));
  for (int c = 0; c < cols; ++c) {
    if ((row[c] & magnitude) == 0) continue;
    mask[c / 8] = static_cast<uint8_t>(mask[c / 8] | 1 << c % 8);
    ++count;
  }
  return count;
}

template <class Element>
void gather(const Element* row, int cols, const uint8_t* mask, Element* out) {
  for (int c = 0; c < cols; ++c)
    if (mask[c / 8] >> c % 8 & 1) *out++ = row[c];
}
template <class Element>
void scatter(const Element* values, int cols, const uint8_t* mask, Element* out) {
  for (int c = 0; c < cols; ++c) out[c] = mask[c / 8] >> c % 8 & 1 ? *values++ : Element{0};
}

template <class Body>
void eachRow(ThreadPool& pool, int rows, Body body) {
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(rows, 1, thread, threads);
    for (int64_t row = range.begin; row < range.end; ++row) body(static_cast<int>(row));
  });
}

const uint8_t* maskRow(const Matrix& m, int row) { return m.sparse.mask + static_cast<size_t>(row) * sparseMaskBytes(m.cols); }

template <class Element>
Matrix compressed(Ledger& ledger, const Matrix& dense, ThreadPool& pool, Element magnitude) {
  const auto* in = static_cast<const Element*>(dense.data);
  const size_t cols = static_cast<size_t>(dense.cols), rows = static_cast<size_t>(dense.rows), maskBytes = sparseMaskBytes(dense.cols);
  Ledger moment;
  const Buffer masks(moment, MemoryTag::weights, rows * maskBytes);
  std::vector<uint32_t> starts(rows + 1);
  eachRow(pool, dense.rows, [&](int row) { starts[static_cast<size_t>(row) + 1] = maskOf(in + static_cast<size_t>(row) * cols, dense.cols, magnitude, masks.as<uint8_t>() + static_cast<size_t>(row) * maskBytes); });
  for (size_t row = 0; row < rows; ++row) starts[row + 1] += starts[row];
  WeightFormat format = dense.format;
  format.sparse = true;
  format.kept = static_cast<float>(starts[rows]) / static_cast<float>(rows * cols);
  Matrix out = allocateSparse(ledger, format, dense.rows, dense.cols, starts[rows]);
  std::memcpy(const_cast<uint32_t*>(out.sparse.starts), starts.data(), startBytes(dense.rows));
  std::memcpy(const_cast<uint8_t*>(out.sparse.mask), masks.as<uint8_t>(), rows * maskBytes);
  auto* values = static_cast<Element*>(const_cast<void*>(out.sparse.values));
  eachRow(pool, dense.rows, [&](int row) { gather(in + static_cast<size_t>(row) * cols, dense.cols, maskRow(out, row), values + starts[static_cast<size_t>(row)]); });
  return out;
}

}  // namespace

size_t sparseBytes(int rows, int cols, size_t kept, size_t elementBytes) {
  return aligned(kept * elementBytes + kSparsePadBytes) + aligned(startBytes(rows)) + static_cast<size_t>(rows) * sparseMaskBytes(cols);
}

SparseRows sparseParts(void* memory, int rows, size_t kept, size_t elementBytes) {
  auto* const values = static_cast<std::byte*>(memory);
  auto* const starts = values + aligned(kept * elementBytes + kSparsePadBytes);
  return {values, reinterpret_cast<const uint32_t*>(starts), reinterpret_cast<const uint8_t*>(starts + aligned(startBytes(rows))), kept};
}

Matrix allocateSparse(Ledger& ledger, const WeightFormat& format, int rows, int cols, size_t kept) {
  CHECK(format.sparse && kept <= std::numeric_limits<uint32_t>::max(), format.describe(), kept);
  Matrix m;
  m.format = format;
  m.rows = rows;
  m.cols = cols;
  m.sparse.count = kept;
  m.codes = Buffer(ledger, MemoryTag::weights, sparseBytes(rows, cols, kept, format.elementBytes()));
  if (ledger.planning()) return m;
  auto* const at = m.codes.as<std::byte>();
  m.sparse = sparseParts(at, rows, kept, format.elementBytes());
  std::memset(at + kept * format.elementBytes(), 0, kSparsePadBytes);
  return m;
}

Matrix withoutZeros(Ledger& ledger, const Matrix& dense, ThreadPool& pool) {
  CHECK(dense.format.storage != Storage::packed && !dense.format.sparse && dense.data, dense.format.describe());
  return dense.format.storage == Storage::f32 ? compressed<uint32_t>(ledger, dense, pool, 0x7fffffffu) : compressed<uint16_t>(ledger, dense, pool, 0x7fffu);
}

void expandRow(const Matrix& sparse, int row, void* out) {
  const uint32_t start = sparse.sparse.starts[row];
  if (sparse.format.storage == Storage::f32)
    return scatter(static_cast<const uint32_t*>(sparse.sparse.values) + start, sparse.cols, maskRow(sparse, row), static_cast<uint32_t*>(out));
  scatter(static_cast<const uint16_t*>(sparse.sparse.values) + start, sparse.cols, maskRow(sparse, row), static_cast<uint16_t*>(out));
}

}  // namespace winnow
