// SPDX-License-Identifier: GPL-3.0-or-later
// 8-bit floats (Micikevicius et al. 2022, "FP8 formats for deep learning", section 3; the OCP 8-bit floating point specification): E4M3 has
// bias 7, magnitudes to 448 and no infinity (0x7f and 0xff are no numbers); E5M2 has bias 15, magnitudes to 57344 and IEEE's infinities.
// scale = largest magnitude / largest value; codes are rounded to nearest, ties to even, and saturate.
#include <array>
#include <cmath>
#include <limits>

#include "engine/cpu/isa.h"
#include "engine/quantize/code_format.h"

namespace winnow {
namespace {

constexpr float kMostE4M3 = 448, kMostE5M2 = 57344;

std::array<float, 256> valuesOf(int mantissa, int bias) {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code & 0x7f) >> mantissa, fraction = code & ((1 << mantissa) - 1);
    const int significand = exponent == 0 ? fraction : fraction + (1 << mantissa);
    float value = std::ldexp(static_cast<float>(significand), std::max(exponent, 1) - bias - mantissa);
    if (mantissa == 3 && (code & 0x7f) == 0x7f) value = std::numeric_limits<float>::quiet_NaN();
    if (mantissa == 2 && exponent == 31) value = fraction == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    values[static_cast<size_t>(code)] = (code & 0x80) != 0 ? -value : value;
  }
  return values;
}

}  // namespace

CodeFormat e4m3Format() {
  static const std::array<float, 256> values = valuesOf(3, 7);
  return {.code = Code::e4m3, .name = "fp8-e4m3", .title = "FP8 with 4 exponent bits", .paper = "Micikevicius et al. 2022 (arXiv 2209.05433), section 3",
          .bits = 8, .group = 0, .fixedGroup = false, .values = values, .most = kMostE4M3, .zero = 0,
          .scaleOf = [](float largest) { return coveringScale(largest, kMostE4M3); },
          .encode = [](const float* w, int count, float scale, uint8_t* q) { cpu::bestCodeKernels().floatCodes(w, count, scale, {3, 7, 8, kMostE4M3}, q); }};
}

CodeFormat e5m2Format() {
  static const std::array<float, 256> values = valuesOf(2, 15);
  return {.code = Code::e5m2, .name = "fp8-e5m2", .title = "FP8 with 5 exponent bits", .paper = "Micikevicius et al. 2022 (arXiv 2209.05433), section 3",
          .bits = 8, .group = 0, .fixedGroup = false, .values = values, .most = kMostE5M2, .zero = 0,
          .scaleOf = [](float largest) { return coveringScale(largest, kMostE5M2); },
          .encode = [](const float* w, int count, float scale, uint8_t* q) { cpu::bestCodeKernels().floatCodes(w, count, scale, {2, 15, 8, kMostE5M2}, q); }};
}

}  // namespace winnow
