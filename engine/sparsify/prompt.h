// SPDX-License-Identifier: GPL-3.0-or-later
// How much a prompt used each neuron of the feed-forwards: sums of squares of what down reads, from the first token on.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/memory.h"
#include "engine/weights/calibration.h"

namespace winnow {

class PromptNeurons final : public LinearInputTap {
 public:
  PromptNeurons(const ModelConfig& model, Ledger& ledger, bool unitTokens);
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;
  void clear();
  int64_t tokens() const { return tokens_; }
  std::span<const float> squares(int layer) const { return {sums_.as<float>() + static_cast<size_t>(layer) * ffn_, ffn_}; }  // [ffn]

 private:
  size_t ffn_;
  bool unitTokens_;
  Buffer sums_;                 // f32 [layers, ffn]
  std::vector<int64_t> taken_;  // [layers] tokens
  int64_t tokens_ = 0;
};

}  // namespace winnow
