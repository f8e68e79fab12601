// SPDX-License-Identifier: GPL-3.0-or-later
// Products of 16-bit matrices, and of FP8 ones, by cuBLASLt, which is loaded at run time: the program starts without it, and says what is missing.
//
// What the library's manual (cublasLtMatmul, the requirements of FP8 kernels) asks for and Product keeps to: compute capability 8.9 or newer;
// CUDA_R_8F_E4M3 inputs with CUBLAS_COMPUTE_32F and CUDA_R_32F scales and results; the "TN" format, which a row-major W [rows, cols] and x [tokens, cols]
// are to a library of columns; pointers, leading dimensions and, of the matrices' extents, cols and rows aligned to 16 bytes (tokens are free). Fast
// accumulation (CUBLASLT_MATMUL_DESC_FAST_ACCUM) stays off, as it is by default: partial sums are moved to f32 every few products.
#pragma once
#include <memory>
#include <string>

#include "engine/cuda/memory.h"

namespace winnow::cuda {

class Cublas {
 public:
  Cublas(Ledger& ledger, bool wanted);
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;
  bool available() const { return functions_ != nullptr; }
  const std::string& reason() const { return reason_; }  // why it is not

  // y[t][r] = W[r] . x[t] (+ y[t][r]); both of f16, of bf16 or (fp8) of E4M3 codes, sums in f32. The algorithm of a shape is chosen once.
  struct Product {
    Storage type{};           // of 16 bits
    bool fp8 = false;         // in its place
    const void* w = nullptr;  // [rows, cols]
    const void* x = nullptr;  // [tokens, cols]
    int rows = 0, cols = 0, tokens = 0;
    float* y = nullptr;       // [tokens, yStride]
    int64_t yStride = 0;
    bool accumulate = false;
  };
  void multiply(Stream stream, const Product& product);
  std::string whyNoFp8() const;  // on the present device; empty: it multiplies FP8

 private:
  struct Functions;
  std::unique_ptr<Functions> functions_;
  std::string reason_;
  DeviceBuffer workspace_;
};

}  // namespace winnow::cuda
