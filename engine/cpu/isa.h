// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

namespace winnow::cpu {

struct CpuFeatures {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, DQ, VL
  bool vnni = false, bf16 = false;
};
CpuFeatures detectFeatures();

}  // namespace winnow::cpu
