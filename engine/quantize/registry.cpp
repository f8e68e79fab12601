// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/quantize/methods.h"

namespace winnow {

std::span<const QuantizeMethod> quantizeMethods() {
  static const QuantizeMethod methods[] = {
      {.name = "rtn", .title = "Round to nearest", .paper = "baseline of GPTQ (Frantar et al., ICLR 2023), section 5", .quantizeRows = quantizeRtn},
      {.name = "gptq", .title = "GPTQ: errors made up for in the columns that follow", .paper = "Frantar et al., ICLR 2023, section 3", .needs = {.factor = true},
       .quantizeRows = quantizeGptq},
      {.name = "awq", .title = "AWQ: columns of large inputs scaled up", .paper = "Lin et al., MLSys 2024, section 3", .needs = {.norms = true},
       .quantizeRows = quantizeAwq, .searchScales = searchAwqScales, .clips = true},
      {.name = "smoothquant", .title = "SmoothQuant: outliers of activations moved into weights, both in 8 bits", .paper = "Xiao et al., ICML 2023, section 4",
       .needs = {.norms = true}, .quantizeRows = quantizeRtn, .searchScales = smoothingScales, .usualBits = 8, .usualInt8 = true, .scalesNormed = true},
      {.name = "aser", .title = "ASER: round to nearest, its error made up for by a product of low rank", .paper = "Zhao et al., AAAI 2025 (arXiv 2411.07762)",
       .quantizeRows = quantizeRtn, .usualBits = 4, .usualRank = 32},
      {.name = "ternary", .title = "Ternary, mean magnitude", .paper = "BitNet b1.58, Ma et al. 2024, section 2", .quantizeRows = quantizeTernaryMean, .bits = 2},
      {.name = "ternary-median", .title = "Ternary, median magnitude", .paper = "Nielsen et al. 2024 (arXiv 2411.05882)", .quantizeRows = quantizeTernaryMedian,
       .bits = 2},
  };
  return methods;
}

const QuantizeMethod* findQuantizeMethod(std::string_view name) {
  for (const QuantizeMethod& method : quantizeMethods())
    if (method.name == name) return &method;
  return nullptr;
}

}  // namespace winnow
