// SPDX-License-Identifier: GPL-3.0-or-later
// Kernels of products with some of the channels of a matrix (engine/weights/channel_major.h). Included by kernel files, so nothing of std::.
#pragma once
#include <stdint.h>

namespace winnow::cpu {

struct ChannelJob {
  const void* data = nullptr;
  int64_t stride = 0;             // bytes from a channel to the next
  const int32_t* list = nullptr;  // the channels, ascending
  int count = 0;
  const float* x = nullptr;       // columns: of each listed channel; rows: of each value, zero beyond them
  const float* xSums = nullptr;   // rows with minimums: of the values of each group
  int length = 0;                 // values of a channel, padded
  int group = 0;                  // 0: no scales
  int64_t scaleStride = 0;
  const uint16_t *halfScales = nullptr, *halfMins = nullptr;
  const float *scales = nullptr, *mins = nullptr;  // instead of those
  const float* table = nullptr;   // nibbles: [16]
  float offset = 0;               // bytes
};
// columns: out[begin, end) = sum over the listed channels of x times their values, in ascending order; begin and end are multiples of 128.
// rows: out[list[i]] for i in [begin, end) = the channel's values times x.
using ChannelKernel = void (*)(const ChannelJob&, int begin, int end, float* out);
constexpr int kChannelCodes = 5;  // ChannelMajor::Code

struct ChannelKernels {
  ChannelKernel columns[kChannelCodes], rows[kChannelCodes];  // rows: null for f32 and bf16, which no packed matrix becomes
};

// As in kernels.h: null where the build has none.
const ChannelKernels* scalarChannelKernels();
const ChannelKernels* avx2ChannelKernels();
const ChannelKernels* avx512ChannelKernels();

}  // namespace winnow::cpu
