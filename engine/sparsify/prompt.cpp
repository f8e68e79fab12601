// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/sparsify/prompt.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/core/check.h"

namespace winnow {

PromptNeurons::PromptNeurons(const ModelConfig& model, std::vector<Channels> left, Ledger& ledger, bool unitTokens)
    : ffn_(static_cast<size_t>(model.ffn)), left_(std::move(left)), unitTokens_(unitTokens),
      sums_(ledger, MemoryTag::activations, static_cast<size_t>(model.layers) * ffn_ * sizeof(float)), taken_(static_cast<size_t>(model.layers)) {}

bool PromptNeurons::sees(const std::vector<Channels>& left) const {
  const auto keyOf = [](const std::vector<Channels>& all, size_t layer) { return all.empty() || !all[layer] ? std::string() : all[layer]->key; };
  for (size_t layer = 0; layer < taken_.size(); ++layer)
    if (keyOf(left_, layer) != keyOf(left, layer)) return false;
  return true;
}

void PromptNeurons::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  if (input != LinearInput::down) return;
  CHECK(static_cast<size_t>(cols) == width(layer), layer, cols, width(layer));
  float* sums = sums_.as<float>() + static_cast<size_t>(layer) * ffn_;
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + t * stride;
    float all = 0;
    if (unitTokens_)
      for (int c = 0; c < cols; ++c) all += row[c] * row[c];
    const float weight = unitTokens_ ? (all > 0 ? 1 / all : 0) : 1;
    for (int c = 0; c < cols; ++c) sums[c] += row[c] * row[c] * weight;
  }
  took(layer, tokens);
}

void PromptNeurons::add(int layer, std::span<const float> squares, int tokens) {
  CHECK(squares.size() == width(layer), layer, squares.size(), width(layer));
  float* sums = sums_.as<float>() + static_cast<size_t>(layer) * ffn_;
  for (size_t c = 0; c < squares.size(); ++c) sums[c] += squares[c];
  took(layer, tokens);
}

void PromptNeurons::took(int layer, int tokens) {
  int64_t& taken = taken_[static_cast<size_t>(layer)];
  taken += tokens;
  tokens_ = std::max(tokens_, taken);
}

void PromptNeurons::clear() {
  std::fill_n(sums_.as<float>(), taken_.size() * ffn_, 0.0f);
  std::ranges::fill(taken_, 0);
  tokens_ = 0;
}

}  // namespace winnow
