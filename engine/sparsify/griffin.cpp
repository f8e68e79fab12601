// SPDX-License-Identifier: GPL-3.0-or-later
// GRIFFIN (Dong et al. 2024): a neuron's statistic is its norm over the prompt, of tokens scaled to norm 1; a fixed share of the neurons stays.
#include <algorithm>
#include <numeric>

#include "engine/sparsify/methods.h"

namespace winnow {

std::vector<int32_t> griffinNeurons(const PromptNeurons& prompt, const ActivationProfile*, int layer, double sparsity) {
  const std::span<const float> squares = prompt.squares(layer);
  std::vector<int32_t> order(squares.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t gone = static_cast<size_t>(sparsity * static_cast<double>(order.size())), kept = std::max<size_t>(order.size() - std::min(gone, order.size()), 1);
  const auto before = [&](int32_t a, int32_t b) {
    const float x = squares[static_cast<size_t>(a)], y = squares[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept - 1), order.end(), before);
  order.resize(kept);
  std::ranges::sort(order);
  return order;
}

}  // namespace winnow
