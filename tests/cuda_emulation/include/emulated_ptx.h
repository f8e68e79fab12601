// SPDX-License-Identifier: GPL-3.0-or-later
// The PTX instructions of engine/cuda/ptx.cuh, as the PTX manual describes them.
#pragma once
#include "tests/cuda_emulation/checked.h"
#include "tests/cuda_emulation/include/cuda_bf16.h"
#include "tests/cuda_emulation/include/cuda_fp16.h"

namespace emulator {

inline float halfOf(uint32_t two, int i) { return __half2float({static_cast<uint16_t>(two >> (16 * i))}); }
inline float bf16Of(uint32_t two, int i) { return __bfloat162float({static_cast<uint16_t>(two >> (16 * i))}); }

// mma.m16n8kK: a register holds P = K / 8 values. Lane l, g = l / 4, t = l % 4, holds
//   a[0], a[1]: row g, g + 8, columns P t .. P t + P - 1 of A; a[2], a[3]: the same rows, columns K / 2 further
//   b[0], b[1]: rows P t .. P t + P - 1 and K / 2 further, column g of B
//   d[0], d[1]: row g, columns 2t, 2t + 1 of D; d[2], d[3]: row g + 8
// The order of the K products is the hardware's own business; here it is ascending. term(x, y, i): the i-th values' product.
template <unsigned K, class Sum, class Term>
void matrixMultiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where, Term term) {
  constexpr unsigned half = K / 2, each = K / 8;
  Slot& mine = mySlot();
  std::copy(a, a + 4, mine.words);
  std::copy(b, b + 2, mine.words + 4);
  exchange(WarpOp::matrix, ~0u, where);
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned upper = i / 2, column = 2 * t + i % 2;
    for (unsigned k = 0; k < K; ++k) {
      const uint32_t x = slotOf(g * 4 + k % half / each).words[k / half * 2 + upper];
      const uint32_t y = slotOf(column * 4 + k % half / each).words[4 + k / half];
      d[i] += term(x, y, static_cast<int>(k % each));
    }
  }
}

// 16-bit floats, f32 sums. Every lane widens its own values; the others find them as floats, A's eight and then B's four.
template <float (*value)(uint32_t, int)>
void matrixMultiply16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  float mine[12];
  for (int i = 0; i < 12; ++i) mine[i] = value(i < 8 ? a[i / 2] : b[i / 2 - 4], i % 2);
  std::memcpy(mySlot().words, mine, sizeof mine);
  exchange(WarpOp::matrix, ~0u, where);
  const unsigned g = lane() / 4, t = lane() % 4;
  float rows[4][8], columns[2][4][4];  // of the four lanes that hold a row, and each of two columns
  for (unsigned q = 0; q < 4; ++q) {
    std::memcpy(rows[q], slotOf(g * 4 + q).words, sizeof rows[q]);
    for (unsigned j = 0; j < 2; ++j) std::memcpy(columns[j][q], slotOf((2 * t + j) * 4 + q).words + 8, sizeof columns[j][q]);
  }
  for (unsigned i = 0; i < 4; ++i)
    for (unsigned half = 0; half < 2; ++half)
      for (unsigned q = 0; q < 4; ++q)
        for (unsigned e = 0; e < 2; ++e) d[i] += rows[q][4 * half + i / 2 * 2 + e] * columns[i % 2][q][2 * half + e];
}

// Bytes, with or without a sign, times signed bytes.
template <class Byte>
void matrixMultiplyBytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  matrixMultiply<32>(d, a, b, where,
                     [](uint32_t x, uint32_t y, int i) { return static_cast<int>(static_cast<Byte>(x >> (8 * i))) * static_cast<int8_t>(y >> (8 * i)); });
}

// ldmatrix.x4: lane 8i + j names row j of matrix i, 8 values of 16 bits; lane (g, t) gets row g, columns 2t and 2t + 1, of each, or,
// transposed, column g, rows 2t and 2t + 1.
template <bool transposed>
void loadMatrices(uint32_t (&out)[4], Region* region, const void* row, Where where) {
  if (!region || !region->shared) fault("a matrix is loaded from what is not shared memory");
  if (reinterpret_cast<uintptr_t>(row) % 16) fault("a row of a matrix is not aligned");
  access(region, row, 16, Access::read);
  std::memcpy(mySlot().words, row, 16);
  exchange(WarpOp::matrix, ~0u, where);
  const unsigned g = lane() / 4, t = lane() % 4;
  const auto half = [](unsigned provider, unsigned column) { return slotOf(provider).words[column / 2] >> (16 * (column % 2)) & 0xffff; };
  for (unsigned i = 0; i < 4; ++i)
    out[i] = transposed ? half(8 * i + 2 * t, g) | half(8 * i + 2 * t + 1, g) << 16 : slotOf(8 * i + g).words[t];
}

}  // namespace emulator
