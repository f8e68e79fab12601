// SPDX-License-Identifier: GPL-3.0-or-later
// What the device can do at most, measured in the run that is compared with it: the counterpart of engine/cpu/roofline.cpp.
#pragma once
#include <cstddef>
#include <optional>
#include <string>

#include "engine/cuda/ops.h"

namespace winnow::cuda {

// XOR of all words of each of `blocks` parts of the data, so that every read counts; what the bandwidth is measured with.
constexpr int kReadThreads = 512;
void readStream(Stream stream, const uint32_t* data /* [words], words a multiple of 4 */, int64_t words, int blocks, uint32_t* sums /* [blocks] */);

// GB/s of reading `bytes` (several times the second-level cache), the best of ten rounds.
double measureReadBandwidth(Stream stream, size_t bytes);

// Inputs to measure with: values that a device multiplies at the speed of real ones (zeros run faster).
void fillUniform(Stream stream, void* data, Storage storage /* f32, f16, bf16 */, int64_t count, float low, float high, uint32_t seed);
void fillBits(Stream stream, void* data, size_t bytes /* a multiple of 4 */, uint32_t seed);

enum class GemmType : uint8_t { bf16, f16, e4m3 };  // of the inputs; of e4m3 the results are bf16
struct GemmShape {
  int rows = 0, cols = 0, depth = 0;  // out[cols][rows] = x[cols][depth] w[rows][depth]: cols are tokens
};
struct GemmTime {
  double milliseconds = 0;  // median
  double flops = 0;
  double teraflops() const { return flops / milliseconds * 1e-9; }
};
// cuBLASLt on random values, its first choice of algorithm. None where the library is absent: `why` says which step failed.
std::optional<GemmTime> measureGemm(Stream stream, const GemmShape& shape, GemmType type, std::string* why);

}  // namespace winnow::cuda
