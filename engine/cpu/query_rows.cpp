// SPDX-License-Identifier: GPL-3.0-or-later
// The arithmetic of engine/cache/query_rows.h in the best kernels this machine has, wherever the cache lies.
#include "engine/cache/query_rows.h"

#include <algorithm>
#include <vector>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/cpu/kernels.h"

namespace winnow {

// Rows side by side: a key's value meets all of them at once.
void products(std::span<const float> keys, int headDim, std::span<const float* const> rows, float scale, float* out) {
  CHECK(rows.size() <= kProductRows && headDim > 0 && keys.size() % static_cast<size_t>(headDim) == 0, rows.size(), headDim, keys.size());
  const size_t dim = static_cast<size_t>(headDim), slots = keys.size() / dim;
  std::vector<float> turned(dim * kProductRows);  // [headDim, kProductRows]
  for (size_t row = 0; row < rows.size(); ++row)
    for (size_t c = 0; c < dim; ++c) turned[c * kProductRows + row] = rows[row][c];
  constexpr size_t kAtOnce = 96;
  float sums[kAtOnce * kProductRows];
  for (size_t first = 0; first < slots; first += kAtOnce) {
    const size_t count = std::min(kAtOnce, slots - first);
    cpu::bestKernels().smallProduct(keys.data() + first * dim, headDim, turned.data(), kProductRows, static_cast<int>(count), headDim, kProductRows, sums,
                                    kProductRows, false);
    for (size_t row = 0; row < rows.size(); ++row)
      for (size_t slot = 0; slot < count; ++slot) out[row * slots + first + slot] = sums[slot * kProductRows + row] * scale;
  }
}

float exponentials(std::span<float> x) {
  float largest = 0, sum = 0;
  cpu::bestKernels().softmaxPart(x.data(), static_cast<int>(x.size()), &largest, &sum);
  return sum;
}

}  // namespace winnow
