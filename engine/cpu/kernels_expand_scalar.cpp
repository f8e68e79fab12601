// SPDX-License-Identifier: GPL-3.0-or-later
#include <string.h>

#include "engine/cpu/expand_kernels.h"

namespace winnow::cpu {
namespace {

template <class Element>
void expand(const void* values, const uint8_t* mask, int cols, void* out) {
  const auto* from = static_cast<const Element*>(values);
  auto* to = static_cast<Element*>(out);
  for (int c = 0; c < cols; c += kExpandStep, mask += 4) {
    uint32_t bits;
    memcpy(&bits, mask, 4);
    for (int i = 0; i < kExpandStep; ++i) {
      const uint32_t there = bits >> i & 1;
      to[c + i] = static_cast<Element>(*from & (0 - there));  // a value is always there to read
      from += there;
    }
  }
}

constexpr ExpandKernels kTable = {expand<uint16_t>, expand<uint32_t>};

}  // namespace

const ExpandKernels* scalarExpandKernels() { return &kTable; }

}  // namespace winnow::cpu
