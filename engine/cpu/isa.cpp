// SPDX-License-Identifier: GPL-3.0-or-later
// What this processor and its operating system can run.
#include "engine/cpu/isa.h"


#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace winnow::cpu {

namespace {

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return f;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const bool ymm = (low & 0x06) == 0x06, zmm = (low & 0xe6) == 0xe6;  // XCR0: SSE, AVX; opmask, ZMM0-15 high, ZMM16-31
  const bool fma = (c & bit_FMA) != 0, f16c = (c & bit_F16C) != 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = avx2Kernels() && ymm && fma && f16c && (b & bit_AVX2);
  f.avx512 = avx512Kernels() && f.avx2 && zmm && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512DQ) && (b & bit_AVX512VL);
  f.vnni = f.avx512 && vnniKernels() && (c & bit_AVX512VNNI);
  f.vbmi2 = f.avx512 && vbmi2ExpandKernels() && (c & bit_AVX512VBMI2);
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) f.bf16 = f.avx512 && bf16Kernels() && (a & bit_AVX512BF16);
#endif
  return f;
}

}  // namespace

const CpuFeatures& detectFeatures() {
  static const CpuFeatures features = detect();  // once: in a virtual machine every CPUID costs tens of microseconds
  return features;
}

KernelTable kernelsFor(Isa isa) {
  if (isa == Isa::scalar) return *scalarKernels();
  if (isa == Isa::avx2) return *avx2Kernels();
  KernelTable table = *avx512Kernels();
  if (detectFeatures().vnni) {
    table.peakInt8 = vnniKernels()->peakInt8;
    for (int bits = 0; bits < kPackedBits; ++bits) table.packedInt8[bits] = vnniKernels()->packedInt8[bits];
  }
  if (detectFeatures().bf16) {
    table.peakBf16 = bf16Kernels()->peakBf16;
    table.plainBf16 = bf16Kernels()->plainBf16;
    for (int bits = 0; bits < kPackedBits; ++bits) table.packedPairs[bits] = bf16Kernels()->packedPairs[bits];
    table.bf16Row = bf16Kernels()->bf16Row;
    table.pairsRow = bf16Kernels()->pairsRow;
  }
  return table;
}

CodeKernels codeKernelsFor(Isa isa) {
  if (isa == Isa::scalar) return *scalarCodeKernels();
  if (isa == Isa::avx2) return *avx2CodeKernels();
  CodeKernels table = *avx512CodeKernels();
  if (detectFeatures().vnni)
    for (int kind = 0; kind < kCodeKinds; ++kind) table.packedInt8[kind] = vnniCodeKernels()->packedInt8[kind];
  return table;
}

const CodeKernels& bestCodeKernels() {
  static const CodeKernels table = codeKernelsFor(bestIsa());
  return table;
}

ExpandKernels expandKernelsFor(Isa isa) {
  if (isa == Isa::scalar) return *scalarExpandKernels();
  return isa == Isa::avx512 && detectFeatures().vbmi2 ? *vbmi2ExpandKernels() : *avx2ExpandKernels();
}

const KernelTable& bestKernels() {
  static const KernelTable table = kernelsFor(bestIsa());
  return table;
}

Isa bestIsa() {
  const CpuFeatures& f = detectFeatures();
  return f.avx512 ? Isa::avx512 : f.avx2 ? Isa::avx2 : Isa::scalar;
}

std::vector<Isa> availableIsas() {
  const CpuFeatures& f = detectFeatures();
  std::vector<Isa> isas = {Isa::scalar};
  if (f.avx2) isas.push_back(Isa::avx2);
  if (f.avx512) isas.push_back(Isa::avx512);
  return isas;
}

std::string isaName(Isa isa) {
  if (isa == Isa::scalar) return "scalar";
  if (isa == Isa::avx2) return "avx2";
  const CpuFeatures& f = detectFeatures();
  return std::string("avx512") + (f.vnni ? "+vnni" : "") + (f.bf16 ? "+bf16" : "");
}

}  // namespace winnow::cpu
