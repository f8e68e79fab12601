// SPDX-License-Identifier: GPL-3.0-or-later
// The table of code kernels of the instruction set this file is compiled for, and the rounding of weights to codes.
#pragma once
#include "engine/cpu/packed_codes.h"

namespace winnow::cpu {
namespace {

// These are plain loops: the compiler makes vectors of them.
void tableCodes(const float* w, int count, float scale, const float* limits, uint8_t* q) {
  for (int i = 0; i < count; ++i) {
    const float v = w[i] / scale;
    int code = 0;
    UNROLL for (int j = 0; j < 15; ++j) code += v > limits[j];
    q[i] = static_cast<uint8_t>(code);
  }
}

template <class To, class From>
INLINE To sameBits(From x) {
  To r;
  static_assert(sizeof(To) == sizeof(From));
  memcpy(&r, &x, sizeof r);
  return r;
}
void floatCodes(const float* w, int count, float scale, SmallFloat format, uint8_t* q) {
  const int shift = 23 - format.mantissa;
  const uint32_t below = (1u << (shift - 1)) - 1, rebias = static_cast<uint32_t>(127 - format.bias) << format.mantissa;
  const float normal = sameBits<float>(static_cast<uint32_t>(128 - format.bias) << 23);                    // the smallest
  const float steps = sameBits<float>(static_cast<uint32_t>(126 + format.bias + format.mantissa) << 23);  // one over the smallest subnormal
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: adding it leaves no fraction bits
  for (int i = 0; i < count; ++i) {
    const float v = w[i] / scale, size = __builtin_fabsf(v), magnitude = size < format.most ? size : format.most;
    const uint32_t u = sameBits<uint32_t>(magnitude);
    const uint32_t large = ((u + below + (u >> shift & 1)) >> shift) - rebias;
    const uint32_t small = sameBits<uint32_t>((magnitude < normal ? magnitude : normal) * steps + kMagic) - sameBits<uint32_t>(kMagic);
    const uint32_t sign = sameBits<uint32_t>(v) >> 31 << (format.bits - 1);
    q[i] = static_cast<uint8_t>((magnitude < normal ? small : large) | sign);
  }
}

float largestMagnitude(const float* w, int count) {
  Vf m = set1(0);
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) m = vmax(m, absolute(load(w + i)));
  if (i < count) m = vmax(m, absolute(loadPart(w + i, count - i)));
  return hmax(m);
}

constexpr CodeKernels kCodeTable = {
    .packed = {packedProduct<CodeFloat<kTable4>::Kernel, bitsOf(kTable4)>, packedProduct<CodeFloat<kE4M3>::Kernel, bitsOf(kE4M3)>,
               packedProduct<CodeFloat<kE5M2>::Kernel, bitsOf(kE5M2)>, packedProduct<CodeFloat<kHalves3>::Kernel, bitsOf(kHalves3)>,
               packedProduct<CodeFloat<kHalves6>::Kernel, bitsOf(kHalves6)>},
    .packedInt8 = WINNOW_CODE_INT8_TABLE,
    .tableCodes = tableCodes,
    .floatCodes = floatCodes,
    .largest = largestMagnitude,
};

}  // namespace
}  // namespace winnow::cpu
