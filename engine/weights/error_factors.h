// SPDX-License-Identifier: GPL-3.0-or-later
// Error reconstruction: what a stored matrix W' lacks of W is made up for by a product of two thin 16-bit matrices, y = W' x + left (right x),
// fitted to the inputs X of a calibration text (ASER, Zhao et al., AAAI 2025; quantization_and_kv.md W10 with f = 0). With the error
// E = W - W' and S S^T = X^T X, the singular value decomposition E S = U s V^T gives left = U_r, right = U_r^T E: the product of rank r that
// leaves least of |E X^T|, namely the sum of s_i^2 for i > r. The U_r are the leading eigenvectors of E X^T X E^T, so neither S nor its
// inverse, which few tokens do not have, is made.
#pragma once
#include <functional>
#include <memory>

#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/weights/convert.h"
#include "engine/weights/matrix.h"

namespace winnow {

struct ErrorFactors {
  Matrix left, right;                  // f16 [rows, rank], [rank, cols]
  std::shared_ptr<const void> memory;  // owner, where they lie elsewhere

  int rank() const { return right.rows; }
  explicit operator bool() const { return rank() > 0; }
  int64_t bytes() const { return static_cast<int64_t>(*this ? left.bytes() + right.bytes() : 0); }
  // row [right.cols] += left[r] . right, in f32. Host memory only.
  void addRow(int r, float* row) const;
};

constexpr WeightFormat kFactorFormat{Storage::f16, 16, 0, true};
int errorRankOf(const Recipe& recipe, int rows, int cols);     // min(recipe.errorRank, rows, cols)
int64_t errorBytes(const Recipe& recipe, int rows, int cols);  // that its factors take
ErrorFactors allocateFactors(Ledger& ledger, const Recipe& recipe, int rows, int cols);  // none where it asks for none

// Gives `take` each row of the master, scaled, beside the row that is stored, both [cols]; rows come in any order, several at once. False when stopped.
bool eachRowStored(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, ThreadPool& pool, const ConvertProgress& progress,
                   const std::function<void(int row, const float* was, const float* now)>& take);

// Fills factors that were allocated. The error is that against the master, of pruning as well as of rounding; super weights, which are exact
// or meant to be gone, have none. Deterministic whatever the threads. Not `damaged`: the master was looked at when `stored` was made.
Converted fitErrors(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, ThreadPool& pool, const ConvertProgress& progress,
                    ErrorFactors& out);

}  // namespace winnow
