// SPDX-License-Identifier: GPL-3.0-or-later
// Norms, rotary positions, activations, f16 stores.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/check.h"
#include "engine/cpu/context.h"
#include "engine/cpu/rope_pairs.h"

namespace winnow::cpu {
namespace {

// Rows of a small call are not worth a fork-join (a microsecond or two). The result is the same either way.
constexpr int64_t kAloneFloats = 8192;

template <class Body>
void eachRow(Context& context, int64_t rows, int64_t floatsPerRow, Body body) {
  if (rows * floatsPerRow <= kAloneFloats) {
    for (int64_t i = 0; i < rows; ++i) body(i);
    return;
  }
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(rows, 1, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) body(i);
  });
}

}  // namespace

void rmsNorm(Context& context, const float* x, const float* weight, float eps, int tokens, int n, float* out) {
  const KernelTable& k = context.impl().kernels;
  eachRow(context, tokens, n, [&](int64_t t) { k.rmsNorm(x + t * n, weight, eps, n, out + t * n); });
}

void layerNorm(Context& context, const float* x, const float* weight, const float* bias, float eps, int tokens, int n, float* out) {
  const KernelTable& k = context.impl().kernels;
  eachRow(context, tokens, n, [&](int64_t t) { k.layerNorm(x + t * n, weight, bias, eps, n, out + t * n); });
}

void headNorm(Context& context, float* x, int64_t stride, const float* weight, float eps, int tokens, int heads, int headDim) {
  const KernelTable& k = context.impl().kernels;
  eachRow(context, int64_t{tokens} * heads, headDim, [&](int64_t i) {
    float* head = x + i / heads * stride + i % heads * headDim;
    k.rmsNorm(head, weight, eps, headDim, head);
  });
}

std::vector<float> ropeFrequencies(const RopeConfig& rope) { return winnow::ropeFrequencies(rope); }

namespace {

void prepareRotations(Context::Impl& impl, const float* frequencies, int half, const int32_t* positions, int tokens) {
  const size_t pairs = static_cast<size_t>(half), n = static_cast<size_t>(tokens);
  const bool sameShape = impl.ropePairs == pairs && impl.ropeTokens == n;
  float* keptFrequencies = impl.ropeFrequencies.need<float>(pairs);
  int32_t* keptPositions = impl.ropePositions.need<int32_t>(n);
  float *cosines = impl.ropeCos.need<float>(n * pairs), *sines = impl.ropeSin.need<float>(n * pairs);
  if (impl.ledger.planning()) return;
  if (sameShape && std::memcmp(keptFrequencies, frequencies, pairs * 4) == 0 && std::memcmp(keptPositions, positions, n * 4) == 0) return;
  std::memcpy(keptFrequencies, frequencies, pairs * 4);
  std::memcpy(keptPositions, positions, n * 4);
  impl.ropePairs = pairs;
  impl.ropeTokens = n;
  for (size_t t = 0; t < n; ++t)
    for (size_t c = 0; c < pairs; ++c) {
      // In double: at position 100 000 the rounding of an f32 product would turn the fastest pair by 0.004.
      const double angle = static_cast<double>(positions[t]) * static_cast<double>(frequencies[c]);
      cosines[t * pairs + c] = static_cast<float>(std::cos(angle));
      sines[t * pairs + c] = static_cast<float>(std::sin(angle));
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
  if (context.planning()) return;
  const size_t rotations = static_cast<size_t>(tokens) * static_cast<size_t>(half);
  const float *cosines = impl.ropeCos.need<float>(rotations), *sines = impl.ropeSin.need<float>(rotations);
  eachRow(context, int64_t{tokens} * heads, headDim, [&](int64_t i) {
    impl.kernels.rotate(x + i / heads * stride + i % heads * headDim, cosines + i / heads * half, sines + i / heads * half, half);
  });
}

void ropePairs(Context& context, float* x, int64_t stride, const KeptPairs& kept, const int32_t* positions, int tokens, int heads, int headDim) {
  CHECK(headDim % 2 == 0 && headDim <= kept.dims && heads % kept.group == 0, headDim, kept.dims, heads, kept.group);
  Context::Impl& impl = context.impl();
  const int half = kept.dims / 2, left = headDim / 2;
  prepareRotations(impl, kept.frequencies, half, positions, tokens);
  if (context.planning() || tokens == 0) return;
  const size_t rotations = static_cast<size_t>(tokens) * static_cast<size_t>(half);
  const float *cosines = impl.ropeCos.need<float>(rotations), *sines = impl.ropeSin.need<float>(rotations);
  eachRow(context, int64_t{tokens} * heads, headDim, [&](int64_t i) {
    const int32_t* own = kept.pairs + i % heads / kept.group * left;
    std::vector<float> turns(static_cast<size_t>(headDim));  // cosines, sines
    for (int c = 0; c < left; ++c) {
      turns[static_cast<size_t>(c)] = cosines[i / heads * half + own[c]];
      turns[static_cast<size_t>(left + c)] = sines[i / heads * half + own[c]];
    }
    impl.kernels.rotate(x + i / heads * stride + i % heads * headDim, turns.data(), turns.data() + left, left);
  });
}

void activate(Context& context, Activation kind, float* gate, const float* up, int64_t count) {
  const KernelTable& k = context.impl().kernels;
  const Squash squash = kind == Activation::silu ? Squash::silu : kind == Activation::geluTanh ? Squash::geluTanh : Squash::geluErf;
  constexpr int64_t kBlock = 1024;
  eachRow(context, (count + kBlock - 1) / kBlock, kBlock, [&](int64_t i) {
    const int64_t begin = i * kBlock;
    k.squash(squash, gate + begin, up ? up + begin : nullptr, std::min(kBlock, count - begin));
  });
}

void storeHalf(const float* src, int64_t count, uint16_t* dst) { bestKernels().toHalf(src, count, dst); }

}  // namespace winnow::cpu
