// SPDX-License-Identifier: GPL-3.0-or-later
// Kernels for packed matrices whose codes are no integers (engine/quantize/code_format.h), and for integers with a scale for each half of a
// chunk of 32; kernels.h has those of all others. Included by kernel files, so nothing of std::.
#pragma once
#include "engine/cpu/kernels.h"

namespace winnow::cpu {

// kTable4: 4-bit codes of any table. kHalves3, kHalves6: integers of so many bits.
enum CodeKind { kTable4, kE4M3, kE5M2, kHalves3, kHalves6, kCodeKinds };
constexpr int bitsOf(int kind) { return kind == kTable4 ? 4 : kind == kHalves3 ? 3 : kind == kHalves6 ? 6 : 8; }
constexpr bool hasHalves(int kind) { return kind == kHalves3 || kind == kHalves6; }

// Floats of a few bits, sign in front: codes of magnitudes up to `most` in order, subnormals included.
struct SmallFloat {
  int mantissa, bias, bits;
  float most;
};

struct CodeKernels {
  MatmulKernel packed[kCodeKinds];      // x as floats
  MatmulKernel packedInt8[kCodeKinds];  // x as int8 with scales and sums of 32; null for 8-bit floats
  // Codes of w / scale, scale > 0: how many of 15 ascending limits lie below; and the nearest float, ties to even, saturating.
  void (*tableCodes)(const float* w, int count, float scale, const float* limits, uint8_t* q);
  void (*floatCodes)(const float* w, int count, float scale, SmallFloat format, uint8_t* q);
  float (*largest)(const float* w, int count);  // magnitude
};

// As in kernels.h: null where the build has none; the last is laid over those of AVX-512.
const CodeKernels* scalarCodeKernels();
const CodeKernels* avx2CodeKernels();
const CodeKernels* avx512CodeKernels();
struct VnniCodeKernels {
  MatmulKernel packedInt8[kCodeKinds];
};
const VnniCodeKernels* vnniCodeKernels();

}  // namespace winnow::cpu
