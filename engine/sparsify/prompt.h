// SPDX-License-Identifier: GPL-3.0-or-later
// How much a prompt used each neuron of the feed-forwards: sums of squares of what down reads, from the first token on.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/memory.h"
#include "engine/weights/calibration.h"
#include "engine/weights/kept_channels.h"

namespace winnow {

class PromptNeurons final : public LinearInputTap {
 public:
  // `left`: [layers] the neurons that pruning left, null where all are there; empty: all are everywhere.
  PromptNeurons(const ModelConfig& model, std::vector<Channels> left, Ledger& ledger, bool unitTokens);
  bool sees(const std::vector<Channels>& left) const;  // these neurons and no others
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;
  // The same of so many tokens whose squares a backend has added up by itself, [neurons left]; scaled where unitTokens().
  void add(int layer, std::span<const float> squares, int tokens);
  bool unitTokens() const { return unitTokens_; }
  void clear();
  int64_t tokens() const { return tokens_; }
  std::span<const float> squares(int layer) const { return {sums_.as<float>() + static_cast<size_t>(layer) * ffn_, width(layer)}; }  // [neurons left]

 private:
  void took(int layer, int tokens);
  size_t width(int layer) const {
    const KeptChannels* left = left_.empty() ? nullptr : left_[static_cast<size_t>(layer)].get();
    return left ? left->list.size() : ffn_;
  }

  size_t ffn_;
  std::vector<Channels> left_;
  bool unitTokens_;
  Buffer sums_;                 // f32 [layers, ffn]
  std::vector<int64_t> taken_;  // [layers] tokens
  int64_t tokens_ = 0;
};

}  // namespace winnow
