// SPDX-License-Identifier: GPL-3.0-or-later
// What packed codes are to kernels: which of their instances multiplies a format.
#pragma once
#include <cstdint>

#include "engine/weights/matrix.h"

namespace winnow::cuda {

enum class Coding : uint8_t {
  integers,
  super,   // integers with super-blocks, a scale and a minimum for each chunk of 32 or several
  halves,  // symmetric integers with super-blocks and a scale for each half of a chunk
  nf4,     // a table of 16 levels
  e2m1,    // 4-bit floats, scales that are powers of two
  e4m3,    // 8-bit floats
  e5m2,
};

constexpr Coding codingOf(const WeightFormat& format) {
  switch (format.code) {
    case Code::nf4: return Coding::nf4;
    case Code::e2m1: return Coding::e2m1;
    case Code::e4m3: return Coding::e4m3;
    case Code::e5m2: return Coding::e5m2;
    case Code::integer: break;
  }
  return format.super == 0 ? Coding::integers : format.symmetric ? Coding::halves : Coding::super;
}

}  // namespace winnow::cuda
