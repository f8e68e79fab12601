// SPDX-License-Identifier: GPL-3.0-or-later
// The kernels for any processor.
#include "engine/cpu/kernels_body.h"

namespace winnow::cpu {
const KernelTable* scalarKernels() { return &kTable; }
}  // namespace winnow::cpu
