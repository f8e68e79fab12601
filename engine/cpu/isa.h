// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/cpu/code_kernels.h"
#include "engine/cpu/expand_kernels.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

struct CpuFeatures {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, DQ, VL
  bool vnni = false, bf16 = false, vbmi2 = false;
};
const CpuFeatures& detectFeatures();

KernelTable kernelsFor(Isa isa);   // with VNNI and BF16 laid over AVX-512 where present
const KernelTable& bestKernels();  // of bestIsa(), for work outside a Context
CodeKernels codeKernelsFor(Isa isa);
const CodeKernels& bestCodeKernels();
ExpandKernels expandKernelsFor(Isa isa);

}  // namespace winnow::cpu
