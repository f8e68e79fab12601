// SPDX-License-Identifier: GPL-3.0-or-later
// NF4 (Dettmers et al., QLoRA, NeurIPS 2023, section 3 and appendix E): sixteen levels that are quantiles of a normal distribution, seven below
// zero, zero, eight above, scaled to [-1, 1]; the scale is the largest magnitude of the group. The table is not symmetric: w and -w do not
// become mirrored values. Scales stay 16-bit: of double quantization only what it saves is missing (0.12 bit at groups of 64).
#include "engine/cpu/isa.h"
#include "engine/quantize/code_format.h"

namespace winnow {
namespace {

constexpr float kLevels[16] = {-1.0f,        -0.69619280f, -0.52507305f, -0.39491749f, -0.28444138f, -0.18477343f, -0.09105004f, 0.0f,
                               0.07958030f,  0.16093020f,  0.24611230f,  0.33791524f,  0.44070983f,  0.56261700f,  0.72295684f,  1.0f};

void encode(const float* w, int count, float scale, uint8_t* q) {
  static const auto limits = [] {
    std::array<float, 15> middles{};
    for (size_t i = 0; i < 15; ++i) middles[i] = (kLevels[i] + kLevels[i + 1]) / 2;
    return middles;
  }();
  cpu::bestCodeKernels().tableCodes(w, count, scale, limits.data(), q);
}

}  // namespace

CodeFormat nf4Format() {
  return {.code = Code::nf4, .name = "nf4", .title = "NF4: sixteen quantiles of a normal distribution", .paper = "Dettmers et al., NeurIPS 2023, section 3",
          .bits = 4, .group = 64, .fixedGroup = false, .values = kLevels, .most = 1, .zero = 7, .scaleOf = [](float largest) { return coveringScale(largest, 1); },
          .encode = encode, .unit8 = 1.0f / 127, .offset8 = 128};
}

}  // namespace winnow
