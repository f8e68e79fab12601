// SPDX-License-Identifier: GPL-3.0-or-later
// The code kernels for AVX2, FMA and F16C.
#if defined(__AVX2__)
#include "engine/cpu/kernels_codes_body.h"

namespace winnow::cpu {
const CodeKernels* avx2CodeKernels() { return &kCodeTable; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/code_kernels.h"

namespace winnow::cpu {
const CodeKernels* avx2CodeKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
