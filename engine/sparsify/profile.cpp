// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/sparsify/profile.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"

namespace winnow {

ActivationProfile::ActivationProfile(const ModelConfig& model, Ledger& ledger, int64_t tokens, std::vector<std::vector<float>> downNorms)
    : activation_(model.activation), tokens_(std::max<int64_t>(tokens, 1)),
      bins_(ledger, MemoryTag::calibration, static_cast<size_t>(model.layers) * static_cast<size_t>(ActivationSite::count) * kBins * sizeof(uint32_t)),
      downNorms_(std::move(downNorms)) {
  CHECK(static_cast<int>(downNorms_.size()) == model.layers, downNorms_.size(), model.layers);
}

void ActivationProfile::count(int layer, ActivationSite site, const float* values, int n) {
  constexpr uint32_t kInfinite = 255u << 7;
  uint32_t* bins = binsOf(layer, site);
  uint32_t most = 0;
  for (int i = 0; i < n; ++i) {
    const uint32_t upper = std::bit_cast<uint32_t>(std::fabs(values[i])) >> 16;
    most = std::max(most, upper);
    ++bins[std::clamp(upper, kLowest, kLowest + kBins - 1) - kLowest];
  }
  finite_ &= most < kInfinite;
}

void ActivationProfile::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  const int between = step(cols);
  for (int t = 0; t < tokens; t += between) count(layer, static_cast<ActivationSite>(input), x + t * stride, cols);
  const std::span<const float> norms = downNorms(layer);
  if (input != LinearInput::down || norms.empty()) return;
  CHECK(static_cast<int>(norms.size()) == cols, norms.size(), cols);
  row_.assign(norms.size(), 0.0f);
  for (int t = 0; t < tokens; ++t)
    for (int c = 0; c < cols; ++c) row_[static_cast<size_t>(c)] += x[t * stride + c] * x[t * stride + c];
  for (size_t c = 0; c < row_.size(); ++c) row_[c] = std::sqrt(row_[c] / static_cast<float>(tokens)) * norms[c];
  count(layer, ActivationSite::neurons, row_.data(), cols);
}

void ActivationProfile::takeGate(int layer, const float* gate, int64_t stride, int tokens, int cols) {
  const auto kind = activation_ == Activation::silu ? cpu::Squash::silu : activation_ == Activation::geluTanh ? cpu::Squash::geluTanh : cpu::Squash::geluErf;
  const int between = step(cols);
  for (int t = 0; t < tokens; t += between) {
    row_.assign(gate + t * stride, gate + t * stride + cols);
    cpu::bestKernels().squash(kind, row_.data(), nullptr, cols);
    count(layer, ActivationSite::gate, row_.data(), cols);
  }
}

Status ActivationProfile::sound() const {
  if (finite_) return Done{};
  return Error{ErrorCode::badInput, "On the calibration text the model computes NaN or infinity.", "Choose another calibration text, or set compute.activations=f32."};
}

int64_t ActivationProfile::counted(int layer, ActivationSite site) const {
  const uint32_t* bins = binsOf(layer, site);
  int64_t sum = 0;
  for (uint32_t b = 0; b < kBins; ++b) sum += bins[b];
  return sum;
}

float ActivationProfile::quantile(int layer, ActivationSite site, double share) const {
  const uint32_t* bins = binsOf(layer, site);
  const double wanted = share * static_cast<double>(counted(layer, site));
  if (wanted <= 0) return 0;
  const auto edge = [](uint32_t bin) { return std::bit_cast<float>((kLowest + bin) << 16); };
  double below = 0;
  for (uint32_t b = 0; b < kBins; ++b) {
    if (below + bins[b] < wanted) {
      below += bins[b];
      continue;
    }
    const float low = b == 0 ? 0.0f : edge(b), high = edge(b + 1);
    return low + (high - low) * static_cast<float>((wanted - below) / bins[b]);
  }
  return edge(kBins);
}

}  // namespace winnow
