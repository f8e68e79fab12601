// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

// x as the mode says, back in f32.
void roundActivations(const float* x, int cols, ActivationMode mode, float* out) {
  switch (mode) {
    case ActivationMode::f32: std::copy_n(x, cols, out); break;
    case ActivationMode::f16:
      for (int k = 0; k < cols; ++k) out[k] = f16ToFloat(floatToF16(x[k]));
      break;
    case ActivationMode::bf16:
      for (int k = 0; k < cols; ++k) out[k] = bf16ToFloat(floatToBf16(x[k]));
      break;
    case ActivationMode::int8:
      for (int begin = 0; begin < cols; begin += 32) {
        const int end = std::min(begin + 32, cols);
        float largest = 0;
        for (int k = begin; k < end; ++k) largest = std::max(largest, std::fabs(x[k]));
        const float scale = largest / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
        for (int k = begin; k < end; ++k) out[k] = scale * std::nearbyintf(x[k] * inverse);
      }
      break;
  }
}

}  // namespace

void matmul(Context& context, std::span<const MatmulTarget> targets, const float* x, int64_t xStride, int tokens, ActivationMode mode) {
  if (targets.empty() || tokens == 0) return;
  const int cols = targets[0].w->cols;
  for (const MatmulTarget& target : targets) {
    CHECK(target.w->cols == cols, target.w->cols, cols);
    CHECK(mode != ActivationMode::int8 || target.w->format.storage == Storage::packed);
  }
  Context::Impl& impl = context.impl();
  const size_t n = static_cast<size_t>(cols);
  float* prepared = impl.x.need<float>(n * static_cast<size_t>(tokens));
  float* rows = impl.threads.need<float>(n * static_cast<size_t>(context.pool().threads()));
  for (int t = 0; t < tokens; ++t) roundActivations(x + t * xStride, cols, mode, prepared + static_cast<size_t>(t) * n);
  context.pool().run([&](int thread, int threads) {
    float* row = rows + static_cast<size_t>(thread) * n;
    for (const MatmulTarget& target : targets) {
      const auto range = ThreadPool::split(target.w->rows, WeightFormat::kTileRows, thread, threads);
      for (int64_t r = range.begin; r < range.end; ++r) {
        dequantizeRow(*target.w, static_cast<int>(r), row);
        for (int t = 0; t < tokens; ++t) {
          const float* in = prepared + static_cast<size_t>(t) * n;
          float sum = 0;
          for (int k = 0; k < cols; ++k) sum += row[k] * in[k];
          float* y = target.y + t * target.yStride + r;
          *y = sum + (target.bias ? target.bias[r] : 0.0f) + (target.accumulate ? *y : 0.0f);
        }
      }
    }
  });
}

}  // namespace winnow::cpu
