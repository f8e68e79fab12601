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
void products(std::span<const float> keys, int headDim, int from, std::span<const float* const> rows, float scale, float* out) {
  CHECK(rows.size() <= kProductRows && headDim > 0 && from >= 0 && from < headDim && keys.size() % static_cast<size_t>(headDim) == 0, rows.size(), headDim, from, keys.size());
  const size_t dim = static_cast<size_t>(headDim), begin = static_cast<size_t>(from), slots = keys.size() / dim;
  std::vector<float> turned((dim - begin) * kProductRows);  // [headDim - from, kProductRows]
  for (size_t row = 0; row < rows.size(); ++row)
    for (size_t c = begin; c < dim; ++c) turned[(c - begin) * kProductRows + row] = rows[row][c];
  constexpr size_t kAtOnce = 96;
  float sums[kAtOnce * kProductRows];
  const cpu::KernelTable& kernels = cpu::bestKernels();
  for (size_t first = 0; first < slots; first += kAtOnce) {
    const int count = static_cast<int>(std::min(kAtOnce, slots - first));
    kernels.smallProduct(keys.data() + first * dim + begin, headDim, turned.data(), kProductRows, count, headDim - from, kProductRows, sums, kProductRows, false);
    kernels.turnScaled(sums, count, static_cast<int>(rows.size()), scale, out + first, static_cast<int64_t>(slots));
  }
}

void perturb(std::span<float> x, std::span<const int32_t> positions, const std::array<uint32_t, 2>& key, float factor) {
  CHECK(x.size() == positions.size(), x.size(), positions.size());
  cpu::bestKernels().perturb(x.data(), positions.data(), static_cast<int>(x.size()), key.data(), factor);
}

void scale(std::span<float> x, float factor) { cpu::bestKernels().scaleRow(x.data(), static_cast<int>(x.size()), factor); }

void addScaled(std::span<float> out, std::span<const float> x, float factor) {
  CHECK(out.size() == x.size(), out.size(), x.size());
  cpu::bestKernels().addScaled(out.data(), x.data(), static_cast<int>(x.size()), factor);
}

float exponentials(std::span<float> x) {
  float largest = 0, sum = 0;
  cpu::bestKernels().softmaxPart(x.data(), static_cast<int>(x.size()), &largest, &sum);
  return sum;
}

}  // namespace winnow
