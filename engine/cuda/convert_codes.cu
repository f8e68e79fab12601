// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/convert_codes.cuh"

#include "engine/cuda/convert_codes.h"

namespace winnow::cuda {
namespace {

CodeRule ruleOf(const CodeFormat& format) {
  CodeRule rule;
  rule.most = format.most;
  rule.bits = format.bits;
  rule.exponents = format.code == Code::e2m1;
  switch (format.code) {
    case Code::e4m3: rule.mantissa = 3, rule.bias = 7; break;
    case Code::e5m2: rule.mantissa = 2, rule.bias = 15; break;
    case Code::e2m1: rule.mantissa = 1, rule.bias = 1; break;
    default:
      rule.table = true;
      for (size_t i = 0; i < 15; ++i) rule.limits[i] = (format.values[i] + format.values[i + 1]) / 2;
  }
  return rule;
}

template <Storage storage>
void launchCodes(Stream stream, const Grid& grid, const QuantizeJob& job, const CodeRule& rule) {
  if (rule.bits == 4) return launch("quantizeCodes", stream, grid, quantizeCodeGroups<storage, 4>, job, rule);
  CHECK(rule.bits == 8, rule.bits);
  launch("quantizeCodes", stream, grid, quantizeCodeGroups<storage, 8>, job, rule);
}

}  // namespace

void quantizeCodes(Stream stream, const Grid& grid, const QuantizeJob& job, Storage storage, Code code) {
  const CodeRule rule = ruleOf(*findCodeFormat(code));
  switch (storage) {
    case Storage::f32: return launchCodes<Storage::f32>(stream, grid, job, rule);
    case Storage::f16: return launchCodes<Storage::f16>(stream, grid, job, rule);
    default: CHECK(storage == Storage::bf16); return launchCodes<Storage::bf16>(stream, grid, job, rule);
  }
}

}  // namespace winnow::cuda
