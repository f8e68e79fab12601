// SPDX-License-Identifier: GPL-3.0-or-later
// Round to nearest to codes that are no integers, the very bytes of engine/quantize/code_format.h and engine/cpu/kernels_codes_body.h.
// Blocks and lanes as in convert.cuh.
#pragma once
#include "engine/cuda/convert.cuh"

namespace winnow::cuda {

// What the codes of a format are: how many of 15 ascending limits lie below; or floats of a few bits, sign in front.
struct CodeRule {
  bool table = false, exponents = false;
  float most = 0;         // the largest magnitude
  float limits[15] = {};
  int mantissa = 0, bias = 0, bits = 0;  // of floats
};

// engine/quantize/code_formats.cpp: it covers the largest magnitude to 1 in 1024, also among f16 subnormals.
__device__ inline uint16_t coveringHalf(float wanted) {
  constexpr uint16_t kMost = 0x7bff;
  const uint16_t nearest = floatToHalf(wanted), bits = nearest < kMost ? nearest : kMost;  // both are positive
  return wanted > halfToFloat(bits) * (1 + 0x1p-10f) && bits < kMost ? static_cast<uint16_t>(bits + 1) : bits;
}
// 2^(floor(log2 largest) - 2), its biased exponent; subnormals and zero have the least.
__device__ inline uint32_t coveringExponent(float largest) {
  return static_cast<uint32_t>(min(max(static_cast<int>(__float_as_uint(largest) >> 23) - 2, 0), 254));
}

__device__ inline uint32_t tableCode(const CodeRule& rule, float v) {
  uint32_t code = 0;
#pragma unroll
  for (int i = 0; i < 15; ++i) code += v > rule.limits[i] ? 1 : 0;
  return code;
}
__device__ inline uint32_t floatCode(const CodeRule& rule, float v) {
  const int shift = 23 - rule.mantissa;
  const uint32_t below = (1u << (shift - 1)) - 1, rebias = static_cast<uint32_t>(127 - rule.bias) << rule.mantissa;
  const float normal = __uint_as_float(static_cast<uint32_t>(128 - rule.bias) << 23);                    // the smallest
  const float steps = __uint_as_float(static_cast<uint32_t>(126 + rule.bias + rule.mantissa) << 23);  // one over the smallest subnormal
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: adding it leaves no fraction bits
  const float magnitude = fminf(fabsf(v), rule.most);
  const uint32_t u = __float_as_uint(magnitude), large = ((u + below + (u >> shift & 1)) >> shift) - rebias;
  const uint32_t small = __float_as_uint(fminf(magnitude, normal) * steps + kMagic) - __float_as_uint(kMagic);
  return (magnitude < normal ? small : large) | __float_as_uint(v) >> 31 << (rule.bits - 1);
}

template <Storage storage, int bits>
__global__ void __launch_bounds__(128) quantizeCodeGroups(const __grid_constant__ QuantizeJob job, const __grid_constant__ CodeRule rule) {
  const int lane8 = static_cast<int>(threadIdx.x) % 8, r = static_cast<int>(threadIdx.x) / 8, tile = static_cast<int>(blockIdx.y),
            group = static_cast<int>(blockIdx.x), row = tile * 16 + r;
  const bool real = row < job.count;  // rows past the end are zeros
  const int begin = group * job.groupChunks, end = min(begin + job.groupChunks, job.chunks);
  float largest = 0;
  for (int chunk = begin; chunk < end && real; ++chunk) {
    float v[4];
    loadFour<storage>(job, row, chunk * 32 + lane8 * 4, 0, v);
#pragma unroll
    for (int i = 0; i < 4; ++i) largest = fmaxf(largest, fabsf(v[i]));
  }
  largest = warpMax<8>(largest);
  const uint32_t stored = !real ? 0 : rule.exponents ? coveringExponent(largest) : coveringHalf(largest / rule.most);
  const uint32_t below = __shfl_down_sync(kAllLanes, stored, 8);  // of the next row
  const int64_t at = (static_cast<int64_t>(job.firstTile + tile) * job.groups + group) * 16 + r;
  if (lane8 == 0 && !rule.exponents) job.scales[at] = static_cast<uint16_t>(stored);
  if (lane8 == 0 && rule.exponents && r % 2 == 0) job.steps[at / 2] = static_cast<uint16_t>(stored | below << 8);
  const float kept = rule.exponents ? powerOfTwo(stored) : halfToFloat(static_cast<uint16_t>(stored)), scale = kept > 0 ? kept : 1.0f;
  for (int chunk = begin; chunk < end; ++chunk) {
    const int k = chunk * 32 + lane8 * 4;
    uint32_t dword = 0;
    if (real) {
      float v[4];
      loadFour<storage>(job, row, k, 0, v);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t code = rule.table ? tableCode(rule, v[i] / scale) : floatCode(rule, v[i] / scale);
        if (k + i < job.cols) dword |= code << (8 * i);
      }
    }
    writeChunk<bits>(dword, lane8, r, job.codes + (static_cast<int64_t>(job.firstTile + tile) * job.chunks + chunk) * 16 * bits);
  }
}

}  // namespace winnow::cuda
