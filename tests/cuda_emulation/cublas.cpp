// SPDX-License-Identifier: GPL-3.0-or-later
// Stands for cuBLASLt beside the emulated device: products of 16-bit matrices with f32 sums in the order of the columns, and of E4M3 codes, whose
// products and sums (in f64) are exact before they are rounded to f32. It is there when a test asks for it (emulator::haveLibrary), and keeps to what
// the library asks of its caller: 16-byte rows, capability and extents for FP8, and inputs that somebody wrote.
#include "engine/cuda/cublas.h"

#include <cuda_runtime.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cuda/checked.h"
#include "tests/cuda_emulation/emulator.h"

namespace {
bool there = false;
int tenfold = 90;

// By the definition of the format: one sign, four exponent bits of bias 7, three of the fraction; all ones are no number.
float e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const float size = (code & 0x7f) == 0x7f ? std::numeric_limits<float>::quiet_NaN() : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9) : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return (code & 0x80) != 0 ? -size : size;
}
}  // namespace

void emulator::haveLibrary(bool is) { there = is; }
void emulator::haveCapability(int is) { tenfold = is; }
int emulator::capability() { return tenfold; }

namespace winnow::cuda {

struct Cublas::Functions {};

Cublas::Cublas(Ledger&, bool wanted) {
  if (there && wanted) functions_ = std::make_unique<Functions>();
  else reason_ = "the emulated device has no cuBLASLt";
}
Cublas::~Cublas() = default;

namespace {

void multiplyFp8(const Cublas::Product& p) {
  CHECK(emulator::capability() >= 89 && !p.accumulate && p.rows % 16 == 0 && p.cols % 16 == 0 && p.yStride % 4 == 0, p.rows, p.cols, p.yStride);
  CHECK(reinterpret_cast<uintptr_t>(p.w) % 16 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0 && reinterpret_cast<uintptr_t>(p.y) % 16 == 0);
  const auto fetch = [&](const void* from, int rows) {
    std::vector<uint8_t> raw(static_cast<size_t>(rows) * static_cast<size_t>(p.cols));
    throwIfFailed(cudaMemcpy(raw.data(), from, raw.size(), cudaMemcpyDeviceToHost), "product");
    std::vector<double> values(raw.size());
    for (size_t i = 0; i < raw.size(); ++i) values[i] = e4m3(raw[i]);
    return values;
  };
  const std::vector<double> w = fetch(p.w, p.rows), x = fetch(p.x, p.tokens);
  std::vector<float> y(static_cast<size_t>(p.rows));
  for (int t = 0; t < p.tokens; ++t) {
    for (int r = 0; r < p.rows; ++r) {
      double sum = 0;
      for (int k = 0; k < p.cols; ++k) sum += w[static_cast<size_t>(r * p.cols + k)] * x[static_cast<size_t>(t * p.cols + k)];
      y[static_cast<size_t>(r)] = static_cast<float>(sum);
    }
    throwIfFailed(cudaMemcpy(p.y + t * p.yStride, y.data(), y.size() * sizeof(float), cudaMemcpyHostToDevice), "product");
  }
}

}  // namespace

void Cublas::multiply(Stream, const Product& p) {
  CHECK(functions_);
  if (p.fp8) return multiplyFp8(p);
  CHECK(functions_ && p.cols % 8 == 0 && reinterpret_cast<uintptr_t>(p.w) % 16 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0, p.cols);
  const auto fetch = [&](const void* from, int rows) {
    std::vector<uint16_t> raw(static_cast<size_t>(rows) * static_cast<size_t>(p.cols));
    throwIfFailed(cudaMemcpy(raw.data(), from, raw.size() * sizeof(uint16_t), cudaMemcpyDeviceToHost), "product");
    std::vector<float> values(raw.size());
    for (size_t i = 0; i < raw.size(); ++i) values[i] = p.type == Storage::f16 ? f16ToFloat(raw[i]) : bf16ToFloat(raw[i]);
    return values;
  };
  const std::vector<float> w = fetch(p.w, p.rows), x = fetch(p.x, p.tokens);
  std::vector<float> y(static_cast<size_t>(p.rows));
  for (int t = 0; t < p.tokens; ++t) {
    float* const out = p.y + t * p.yStride;
    if (p.accumulate) throwIfFailed(cudaMemcpy(y.data(), out, y.size() * sizeof(float), cudaMemcpyDeviceToHost), "product");
    for (int r = 0; r < p.rows; ++r) {
      float sum = 0;
      for (int k = 0; k < p.cols; ++k) sum += w[static_cast<size_t>(r * p.cols + k)] * x[static_cast<size_t>(t * p.cols + k)];
      y[static_cast<size_t>(r)] = p.accumulate ? y[static_cast<size_t>(r)] + sum : sum;
    }
    throwIfFailed(cudaMemcpy(out, y.data(), y.size() * sizeof(float), cudaMemcpyHostToDevice), "product");
  }
}

}  // namespace winnow::cuda
