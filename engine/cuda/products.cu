// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/products.h"

#include <algorithm>
#include <array>

#include "engine/core/check.h"

namespace winnow::cuda {

size_t productScratchBytes(int tokens, int cols) {
  size_t bytes = 0;
  for (ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16, ActivationMode::int8})
    bytes = std::max(bytes, InputForms::bytes(mode, tokens, cols));
  return bytes;
}

void products(Stream stream, std::span<const Target> targets, const float* x, int tokens, int cols, Activations activations,
              void* scratch) {
  CHECK(targets.size() <= kMostTargets, targets.size());
  const auto modeOf = [&](const Target& t) { return activationMode(activations, t.w.format.storage); };
  std::array<Target, kMostTargets> same;
  std::array<bool, kMostTargets> done{};
  for (size_t i = 0; i < targets.size(); ++i) {
    if (done[i]) continue;
    const ActivationMode mode = modeOf(targets[i]);
    size_t count = 0;
    for (size_t j = i; j < targets.size(); ++j) {
      if (done[j] || modeOf(targets[j]) != mode) continue;
      same[count++] = targets[j];
      done[j] = true;
    }
    const std::span<const Target> group{same.data(), count};
    multiply(stream, group, prepare(stream, x, cols, tokens, cols, mode, InputForms::of(group, mode, tokens), scratch));
  }
}

}  // namespace winnow::cuda
