// SPDX-License-Identifier: GPL-3.0-or-later
// Integer products of codes with vpdpbusd.
#if defined(__AVX512VNNI__)
#include "engine/cpu/packed_codes.h"

namespace winnow::cpu {
namespace {
constexpr VnniCodeKernels kVnniCodes = {.packedInt8 = WINNOW_CODE_INT8_TABLE};
}
const VnniCodeKernels* vnniCodeKernels() { return &kVnniCodes; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/code_kernels.h"

namespace winnow::cpu {
const VnniCodeKernels* vnniCodeKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
