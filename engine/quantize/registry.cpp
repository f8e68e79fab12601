// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/quantize/methods.h"

namespace winnow {

std::span<const QuantizeMethod> quantizeMethods() {
  static const QuantizeMethod methods[] = {
      {"rtn", "Round to nearest", "baseline of GPTQ (Frantar et al., ICLR 2023), section 5", {}, quantizeRtn},
      {"gptq", "GPTQ: errors made up for in the columns that follow", "Frantar et al., ICLR 2023, section 3", {.factor = true}, quantizeGptq},
      {"awq", "AWQ: columns of large inputs scaled up", "Lin et al., MLSys 2024, section 3", {.norms = true}, quantizeAwq, searchAwqScales},
  };
  return methods;
}

const QuantizeMethod* findQuantizeMethod(std::string_view name) {
  for (const QuantizeMethod& method : quantizeMethods())
    if (method.name == name) return &method;
  return nullptr;
}

}  // namespace winnow
