// SPDX-License-Identifier: GPL-3.0-or-later
// The code kernels for any processor.
#include "engine/cpu/kernels_codes_body.h"

namespace winnow::cpu {
const CodeKernels* scalarCodeKernels() { return &kCodeTable; }
}  // namespace winnow::cpu
