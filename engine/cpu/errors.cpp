// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/errors.h"

#include <array>

#include "engine/core/check.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {

void addErrors(Context& context, std::span<const ErrorTarget> targets, const float* x, int64_t xStride, int tokens, bool f32) {
  std::array<MatmulTarget, 8> rights;
  CHECK(targets.size() <= rights.size(), targets.size());
  int64_t ranks = 0;
  for (const ErrorTarget& target : targets) ranks += target.error ? target.error->rank() : 0;
  if (ranks == 0) return;
  const ActivationMode mode = f32 ? ActivationMode::f32 : ActivationMode::f16;
  float* made = context.impl().ranks.need<float>(static_cast<size_t>(ranks * tokens));  // [tokens, ranks]; null in a plan
  size_t count = 0;
  for (const ErrorTarget& target : targets) {
    if (!target.error) continue;
    rights[count++] = {&target.error->right, made, ranks, nullptr, false};
    if (made) made += target.error->rank();
  }
  matmul(context, {rights.data(), count}, x, xStride, tokens, mode);
  count = 0;
  for (const ErrorTarget& target : targets) {
    if (!target.error) continue;
    const MatmulTarget left{&target.error->left, target.y, target.yStride, nullptr, true};
    matmul(context, {&left, 1}, rights[count++].y, ranks, tokens, mode);
  }
}

}  // namespace winnow::cpu
