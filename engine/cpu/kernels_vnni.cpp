// SPDX-License-Identifier: GPL-3.0-or-later
// Integer products with vpdpbusd.
#if defined(__AVX512VNNI__)
#include "engine/cpu/packed.h"
#include "engine/cpu/peak.h"

namespace winnow::cpu {
namespace {
constexpr VnniKernels kVnni = {.peakInt8 = peakInt8, .packedInt8 = WINNOW_PACKED_TABLE(PackedInt8)};
}
const VnniKernels* vnniKernels() { return &kVnni; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/kernels.h"

namespace winnow::cpu {
const VnniKernels* vnniKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
