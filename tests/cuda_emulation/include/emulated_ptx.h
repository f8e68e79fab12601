// SPDX-License-Identifier: GPL-3.0-or-later
// The PTX instructions of engine/cuda/ptx.cuh, as the PTX manual describes them.
#pragma once
#include "tests/cuda_emulation/checked.h"
#include "tests/cuda_emulation/include/cuda_bf16.h"
#include "tests/cuda_emulation/include/cuda_fp16.h"

namespace emulator {

inline float halfOf(uint32_t two, int i) { return __half2float({static_cast<uint16_t>(two >> (16 * i))}); }
inline float bf16Of(uint32_t two, int i) { return __bfloat162float({static_cast<uint16_t>(two >> (16 * i))}); }

// mma.m16n8k16, 16-bit floats, f32 sums. Lane l, g = l / 4, t = l % 4, holds
//   a[0], a[1]: row g, g + 8, columns 2t, 2t + 1 of A; a[2], a[3]: the same rows, columns 2t + 8, 2t + 9
//   b[0], b[1]: rows 2t, 2t + 1 and 2t + 8, 2t + 9, column g of B
//   d[0], d[1]: row g, columns 2t, 2t + 1 of D; d[2], d[3]: row g + 8
// The order of the 16 products is the hardware's own business; here it is ascending.
template <float (*value)(uint32_t, int)>
void matrixMultiply16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  Slot& mine = mySlot();
  std::copy(a, a + 4, mine.words);
  std::copy(b, b + 2, mine.words + 4);
  exchange(WarpOp::matrix, ~0u, where);
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned upper = i / 2, column = 2 * t + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const uint32_t x = slotOf(g * 4 + k % 8 / 2).words[k / 8 * 2 + upper];
      const uint32_t y = slotOf(column * 4 + k % 8 / 2).words[4 + k / 8];
      d[i] += value(x, static_cast<int>(k % 2)) * value(y, static_cast<int>(k % 2));
    }
  }
}

// mma.m16n8k32, unsigned bytes times signed bytes: as above with four bytes, k = 4t .. 4t + 3 and 16 more, in each register.
inline void matrixMultiplyBytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  Slot& mine = mySlot();
  std::copy(a, a + 4, mine.words);
  std::copy(b, b + 2, mine.words + 4);
  exchange(WarpOp::matrix, ~0u, where);
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned upper = i / 2, column = 2 * t + i % 2;
    for (unsigned k = 0; k < 32; ++k) {
      const uint32_t x = slotOf(g * 4 + k % 16 / 4).words[k / 16 * 2 + upper], y = slotOf(column * 4 + k % 16 / 4).words[4 + k / 16];
      d[i] += static_cast<int>(x >> (8 * (k % 4)) & 0xff) * static_cast<int8_t>(y >> (8 * (k % 4)));
    }
  }
}

}  // namespace emulator
