// SPDX-License-Identifier: GPL-3.0-or-later
// Norms, rotary positions, activations, f16 stores.
#include <cmath>
#include <cstring>
#include <numbers>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

void rmsNormRow(const float* x, const float* weight, float eps, int n, float* out) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const float scale = static_cast<float>(1.0 / std::sqrt(sum / n + eps));
  for (int i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

}  // namespace

void rmsNorm(Context& context, const float* x, const float* weight, float eps, int tokens, int n, float* out) {
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tokens, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) rmsNormRow(x + t * n, weight, eps, n, out + t * n);
  });
}

void layerNorm(Context& context, const float* x, const float* weight, const float* bias, float eps, int tokens, int n, float* out) {
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tokens, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float* in = x + t * n;
      double mean = 0, variance = 0;
      for (int i = 0; i < n; ++i) mean += in[i];
      mean /= n;
      for (int i = 0; i < n; ++i) variance += (in[i] - mean) * (in[i] - mean);
      const float scale = static_cast<float>(1.0 / std::sqrt(variance / n + eps)), center = static_cast<float>(mean);
      for (int i = 0; i < n; ++i) out[t * n + i] = (in[i] - center) * scale * weight[i] + (bias ? bias[i] : 0.0f);
    }
  });
}

void headNorm(Context& context, float* x, int64_t stride, const float* weight, float eps, int tokens, int heads, int headDim) {
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(int64_t{tokens} * heads, 1, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) {
      float* head = x + i / heads * stride + i % heads * headDim;
      rmsNormRow(head, weight, eps, headDim, head);
    }
  });
}

std::vector<float> ropeFrequencies(const RopeConfig& rope) {
  CHECK(rope.dims >= 0 && rope.dims % 2 == 0, rope.dims);
  std::vector<float> out;
  for (int c = 0; c < rope.dims / 2; ++c) {
    double f = std::pow(static_cast<double>(rope.base), -2.0 * c / rope.dims);
    if (rope.scaling == RopeScaling::linear) f /= rope.factor;
    if (rope.scaling == RopeScaling::llama3) {
      const double context = rope.originalContext, wave = 2 * std::numbers::pi / f;
      if (wave > context / rope.lowFreqFactor) {
        f /= rope.factor;
      } else if (wave >= context / rope.highFreqFactor) {
        const double smooth = (context / wave - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
        f = (1 - smooth) * f / rope.factor + smooth * f;
      }
    }
    out.push_back(static_cast<float>(f));
  }
  return out;
}

namespace {

void prepareRotations(Context::Impl& impl, const float* frequencies, int half, const int32_t* positions, int tokens) {
  const size_t pairs = static_cast<size_t>(half), n = static_cast<size_t>(tokens);
  if (impl.ropeFrequencies.size() == pairs && impl.ropePositions.size() == n &&
      std::memcmp(impl.ropeFrequencies.data(), frequencies, pairs * 4) == 0 &&
      std::memcmp(impl.ropePositions.data(), positions, n * 4) == 0)
    return;
  impl.ropeFrequencies.assign(frequencies, frequencies + pairs);
  impl.ropePositions.assign(positions, positions + n);
  impl.ropeCos.resize(n * pairs);
  impl.ropeSin.resize(n * pairs);
  for (size_t t = 0; t < n; ++t)
    for (size_t c = 0; c < pairs; ++c) {
      // In double: at position 100 000 the rounding of an f32 product would turn the fastest pair by 0.004.
      const double angle = static_cast<double>(positions[t]) * static_cast<double>(frequencies[c]);
      impl.ropeCos[t * pairs + c] = static_cast<float>(std::cos(angle));
      impl.ropeSin[t * pairs + c] = static_cast<float>(std::sin(angle));
    }
}

}  // namespace

void rope(Context& context, float* x, int64_t stride, const float* frequencies, int dims, const int32_t* positions, int tokens, int heads,
          int headDim) {
  CHECK(dims % 2 == 0 && dims <= headDim, dims, headDim);
  if (dims == 0 || tokens == 0) return;
  Context::Impl& impl = context.impl();
  const int half = dims / 2;
  prepareRotations(impl, frequencies, half, positions, tokens);
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(int64_t{tokens} * heads, 1, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) {
      float* head = x + i / heads * stride + i % heads * headDim;
      const float *cosines = impl.ropeCos.data() + i / heads * half, *sines = impl.ropeSin.data() + i / heads * half;
      for (int c = 0; c < half; ++c) {
        const float a = head[c], b = head[c + half];
        head[c] = a * cosines[c] - b * sines[c];
        head[c + half] = a * sines[c] + b * cosines[c];
      }
    }
  });
}

void activate(Context& context, Activation kind, float* gate, const float* up, int64_t count) {
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(count, 64, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) {
      const float x = gate[i];
      float y = 0;
      switch (kind) {
        case Activation::silu: y = x / (1.0f + std::exp(-x)); break;
        case Activation::geluTanh: y = 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x))); break;
        case Activation::geluErf: y = 0.5f * x * (1.0f + std::erf(x * 0.7071067812f)); break;
      }
      gate[i] = up ? y * up[i] : y;
    }
  });
}

void storeHalf(const float* src, int64_t count, uint16_t* dst) {
  for (int64_t i = 0; i < count; ++i) dst[i] = floatToF16(src[i]);
}

}  // namespace winnow::cpu
