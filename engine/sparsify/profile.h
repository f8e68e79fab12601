// SPDX-License-Identifier: GPL-3.0-or-later
// Distributions of the magnitudes of activations over a calibration text, layer by layer: the threshold of any sparsity is read off them without
// another pass (pruning_sharing_attribution.md, section 0 and E3, E4).
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/result.h"
#include "engine/weights/calibration.h"

namespace winnow {

// Where magnitudes are counted. The first four are those of LinearInput; gate: the gate after its activation function; neurons: over each window of the
// text, the root mean square of a neuron times the norm of its column of down.
enum class ActivationSite : uint8_t { attention, output, ffn, down, gate, neurons, count };

// A tap that wants to see gates as well: what a gated feed-forward's gate makes of its input, before the activation function.
class GateTap : public LinearInputTap {
 public:
  virtual void takeGate(int layer, const float* gate /* [tokens, stride] */, int64_t stride, int tokens, int cols) = 0;
};

class ActivationProfile final : public GateTap {
 public:
  // For a text of `tokens` tokens. downNorms: [layers][ffn], empty for layers without a feed-forward.
  ActivationProfile(const ModelConfig& model, Ledger& ledger, int64_t tokens, std::vector<std::vector<float>> downNorms);
  // Each call brings the tokens of a whole window.
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;
  void takeGate(int layer, const float* gate, int64_t stride, int tokens, int cols) override;
  Status sound() const;  // that nothing was NaN or infinite

  // The t that a share of the magnitudes does not exceed, 0 for a share of 0: exact to the width of a bin, 2^-7 of t. 0 where nothing was counted.
  float quantile(int layer, ActivationSite site, double share) const;
  std::span<const float> downNorms(int layer) const { return downNorms_[static_cast<size_t>(layer)]; }
  int64_t counted(int layer, ActivationSite site) const;

 private:
  // Bins are the upper bits of a float: 128 to a power of two, from 2^-40 to 2^24.
  static constexpr uint32_t kLowest = (127u - 40u) << 7, kBins = 64u << 7;
  static constexpr int64_t kMostValues = int64_t{1} << 22;  // of one place; of more a regular sample is counted
  uint32_t* binsOf(int layer, ActivationSite site) const {
    return bins_.as<uint32_t>() + (static_cast<size_t>(layer) * static_cast<size_t>(ActivationSite::count) + static_cast<size_t>(site)) * kBins;
  }
  void count(int layer, ActivationSite site, const float* values, int n);
  int step(int cols) const { return static_cast<int>((tokens_ * cols + kMostValues - 1) / kMostValues); }  // between counted tokens

  Activation activation_;
  int64_t tokens_;
  Buffer bins_;  // u32 [layers, sites, kBins]
  std::vector<std::vector<float>> downNorms_;
  std::vector<float> row_;
  bool finite_ = true;
};

}  // namespace winnow
