// SPDX-License-Identifier: GPL-3.0-or-later
// The kernels for AVX2, FMA and F16C.
#if defined(__AVX2__)
#include "engine/cpu/kernels_body.h"

namespace winnow::cpu {
const KernelTable* avx2Kernels() { return &kTable; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/kernels.h"

namespace winnow::cpu {
const KernelTable* avx2Kernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
