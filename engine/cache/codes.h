// SPDX-License-Identifier: GPL-3.0-or-later
// Where a code lies in a group of a sealed row: one byte of 4- or 2-bit codes serves values a half or a quarter of the group apart, so that
// neighbouring lanes come from neighbouring bytes; 3 bits are a plane of 2 and a plane of 1. Included by kernel files, so nothing of std::.
#pragma once
#include <stdint.h>

#ifdef __CUDACC__
#define WINNOW_HOST_DEVICE __host__ __device__
#else
#define WINNOW_HOST_DEVICE
#endif

namespace winnow {

// Bytes: a pointer, or a kernel's Pointer, which the emulation checks.
template <class Bytes>
WINNOW_HOST_DEVICE inline int codeAt(int bits, Bytes group, int values, int i) {
  if (bits == 8) return group[i];
  const int low = bits == 3 ? 2 : bits, step = values * low / 8;
  const int code = group[i % step] >> (i / step * low) & ((1 << low) - 1);
  return bits == 3 ? code | (group[step + i / 8] >> (i % 8) & 1) << 2 : code;
}

// Into bytes that are zero.
inline void putCode(int bits, uint8_t* group, int values, int i, int code) {
  if (bits == 8) {
    group[i] = static_cast<uint8_t>(code);
    return;
  }
  const int low = bits == 3 ? 2 : bits, step = values * low / 8;
  group[i % step] = static_cast<uint8_t>(group[i % step] | (code & ((1 << low) - 1)) << (i / step * low));
  if (bits == 3) group[step + i / 8] = static_cast<uint8_t>(group[step + i / 8] | (code >> 2) << (i % 8));
}

}  // namespace winnow
