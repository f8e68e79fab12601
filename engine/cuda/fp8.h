// SPDX-License-Identifier: GPL-3.0-or-later
// What FP8 products of long prompts are made of (compute.activations = fp8): codes of E4M3 (Micikevicius et al. 2022, arXiv 2209.05433, section 3) with
// a scale for each row of weights and, at the time, for each token: largest magnitude / 448, so that a row's largest value takes the largest code.
// Values times the inverse of the scale are rounded to nearest, ties to even, and saturate: the codes of engine/quantize/fp8.cpp, but for NaN, which stays
// what it is. A row of weights or a token that holds an infinity gives NaN.
#pragma once
#include "engine/cuda/ops.h"

namespace winnow::cuda {

constexpr int kFp8Multiple = 16;  // of rows and columns (cublas.h)
inline size_t fp8Bytes(int64_t rows, int64_t cols) { return static_cast<size_t>(rows * (cols + int64_t{sizeof(float)})); }  // codes, then scales

// Rows [firstRow, firstRow + count) of weights of any storage; firstRow, count and cols are multiples of 16.
void encodeWeights(Stream stream, const MatrixArgs& m, int firstRow, int count, uint8_t* codes /* [count, cols] */, float* scales /* [count] */);
// What a source makes of its rows, from f32; cols is a multiple of 4.
void encodeInput(Stream stream, const Source& source, int tokens, int cols, uint8_t* codes /* [tokens, cols] */, float* scales /* [tokens] */);

// y[t][r] = xScales[t] wScales[r] sums[t][r] (+ bias[r]) (+ y[t][r])
struct ScaleSums {
  const float* sums = nullptr;  // [tokens, rows]
  const float *xScales = nullptr, *wScales = nullptr;
  const float* bias = nullptr;  // [rows] or null
  int tokens = 0, rows = 0;
  float* y = nullptr;           // [tokens, yStride]
  int64_t yStride = 0;
  bool accumulate = false;
};
void scaleSums(Stream stream, const ScaleSums& args);

}  // namespace winnow::cuda
