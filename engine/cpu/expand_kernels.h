// SPDX-License-Identifier: GPL-3.0-or-later
// Rows without their zeros (engine/weights/sparse_rows.h) as they were. Included by kernel files, so nothing of std::.
#pragma once
#include <stdint.h>

namespace winnow::cpu {

constexpr int kExpandStep = 32;  // weights that a mask word has; rows are written in whole words

// out[0, cols) = the row of the mask; what follows up to the next multiple of kExpandStep is written too. Values are read in whole vectors,
// as far as 64 bytes behind the last.
struct ExpandKernels {
  void (*halves)(const void* values, const uint8_t* mask, int cols, void* out);
  void (*floats)(const void* values, const uint8_t* mask, int cols, void* out);
};

// As in kernels.h: null where the build has none. VBMI2 is an extension of AVX-512; without it AVX-512 takes those of AVX2.
const ExpandKernels* scalarExpandKernels();
const ExpandKernels* avx2ExpandKernels();
const ExpandKernels* vbmi2ExpandKernels();

}  // namespace winnow::cpu
