// SPDX-License-Identifier: GPL-3.0-or-later
// MXFP4 (Rouhani et al. 2023, "Microscaling data formats for deep learning"; the OCP microscaling specification, sections 5 and 6.3): E2M1
// codes in blocks of 32 that share a power of two, 2^(floor(log2 largest) - 2), kept as a biased exponent of 8 bits. Magnitudes between 6 and
// 8 times the scale saturate at 6, as the specification has it. Ties go to the even mantissa.
#include <algorithm>
#include <cmath>

#include "engine/cpu/isa.h"
#include "engine/quantize/code_format.h"

namespace winnow {
namespace {

constexpr float kLevels[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

uint16_t exponentOf(float largest) {
  if (largest == 0) return 0;
  return static_cast<uint16_t>(std::clamp(std::ilogb(largest) - 2 + 127, 0, 254));
}

}  // namespace

CodeFormat mxfp4Format() {
  return {.code = Code::e2m1, .name = "mxfp4", .title = "MXFP4: 4-bit floats in blocks of 32", .paper = "Rouhani et al. 2023 (arXiv 2310.10537), section 2",
          .bits = 4, .group = 32, .fixedGroup = true, .values = kLevels, .most = 6, .zero = 0, .scaleOf = exponentOf,
          .encode = [](const float* w, int count, float scale, uint8_t* q) { cpu::bestCodeKernels().floatCodes(w, count, scale, {1, 1, 4, 6}, q); },
          .unit8 = 0.5f, .offset8 = 12};
}

}  // namespace winnow
