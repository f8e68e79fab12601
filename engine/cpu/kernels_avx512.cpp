// SPDX-License-Identifier: GPL-3.0-or-later
// The kernels for AVX-512 F, BW, DQ, VL.
#if defined(__AVX512F__)
#include "engine/cpu/kernels_body.h"

namespace winnow::cpu {
const KernelTable* avx512Kernels() { return &kTable; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/kernels.h"

namespace winnow::cpu {
const KernelTable* avx512Kernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
