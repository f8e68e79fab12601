// SPDX-License-Identifier: GPL-3.0-or-later
// Products of 16-bit matrices by cuBLASLt, which is loaded at run time: the program starts without it, and says what is missing.
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

  // y[t][r] = W[r] . x[t] (+ y[t][r]); both of f16 or both of bf16, sums in f32. The algorithm of a shape is chosen once.
  struct Product {
    Storage type{};
    const void* w = nullptr;  // [rows, cols]
    const void* x = nullptr;  // [tokens, cols]
    int rows = 0, cols = 0, tokens = 0;
    float* y = nullptr;       // [tokens, yStride]
    int64_t yStride = 0;
    bool accumulate = false;
  };
  void multiply(Stream stream, const Product& product);

 private:
  struct Functions;
  std::unique_ptr<Functions> functions_;
  std::string reason_;
  DeviceBuffer workspace_;
};

}  // namespace winnow::cuda
