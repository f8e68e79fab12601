// SPDX-License-Identifier: GPL-3.0-or-later
// The code kernels for AVX-512 F, BW, DQ, VL.
#if defined(__AVX512F__)
#include "engine/cpu/kernels_codes_body.h"

namespace winnow::cpu {
const CodeKernels* avx512CodeKernels() { return &kCodeTable; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/code_kernels.h"

namespace winnow::cpu {
const CodeKernels* avx512CodeKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
