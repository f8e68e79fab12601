// SPDX-License-Identifier: GPL-3.0-or-later
// Plain rows (f32, f16, bf16) without their zeros: a bit per weight says whether it is there, those that are lie one behind the other
// (pruning_sharing_attribution.md, C0). At half the weights a 16-bit matrix takes 9/16 of its bytes and a little; a row is expanded before it is
// multiplied, so that products are those of the dense matrix, bit for bit.
#pragma once
#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/weights/matrix.h"

namespace winnow {

// Bytes of a mask row: whole words.
constexpr size_t sparseMaskBytes(int cols) { return (static_cast<size_t>(cols) + 31) / 32 * 4; }
// Values behind the last one, so that kernels may read whole vectors.
constexpr size_t kSparsePadBytes = 64;
// Of a matrix with so many weights that are not zero, each of `elementBytes`.
size_t sparseBytes(int rows, int cols, size_t kept, size_t elementBytes);

// Where the parts of such a matrix lie in its memory.
SparseRows sparseParts(void* memory, int rows, size_t kept, size_t elementBytes);

// Memory for `kept` values, or under a planning ledger its count.
Matrix allocateSparse(Ledger& ledger, const WeightFormat& format, int rows, int cols, size_t kept);

// The plain matrix without its zeros; -0 is one. Throws std::bad_alloc.
Matrix withoutZeros(Ledger& ledger, const Matrix& dense, ThreadPool& pool);

// One row as it was, in the element type of the format. Slow and simple, as dequantizeRow is.
void expandRow(const Matrix& sparse, int row, void* out /* [cols] */);

}  // namespace winnow
