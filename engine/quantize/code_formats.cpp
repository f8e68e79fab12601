// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cmath>

#include "engine/core/dtype.h"
#include "engine/quantize/code_format.h"

namespace winnow {
namespace {

CodeFormat completed(CodeFormat format) {
  if (format.unit8 > 0)
    for (size_t i = 0; i < format.levels8.size(); ++i)
      format.levels8[i] = static_cast<uint8_t>(std::lround(format.values[i] / format.unit8) + format.offset8);
  return format;
}

}  // namespace

std::span<const CodeFormat> codeFormats() {
  static const CodeFormat formats[] = {
      completed(nf4Format()),
      completed(e4m3Format()),
      completed(e5m2Format()),
      completed(mxfp4Format()),
  };
  return formats;
}

const CodeFormat* findCodeFormat(Code code) {
  if (code == Code::integer) return nullptr;
  const auto found = std::ranges::find(codeFormats(), code, &CodeFormat::code);
  return found == codeFormats().end() ? nullptr : &*found;
}

const CodeFormat* findCodeFormat(std::string_view name) {
  const auto found = std::ranges::find(codeFormats(), name, &CodeFormat::name);
  return found == codeFormats().end() ? nullptr : &*found;
}

uint16_t coveringScale(float largest, float most) {
  constexpr uint16_t kLargestHalf = 0x7bff;
  const float wanted = largest / most;
  const uint16_t bits = std::min(floatToF16(wanted), kLargestHalf);  // both are positive
  return wanted > f16ToFloat(bits) * (1 + 0x1p-10f) && bits < kLargestHalf ? static_cast<uint16_t>(bits + 1) : bits;
}

}  // namespace winnow
