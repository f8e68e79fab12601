// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/laco.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "engine/core/check.h"

namespace winnow {
namespace {

using Sum = std::map<int, float>;  // layer of the file, its share

// What of the layers stands at one moment of the search; those of one place may be sums already.
struct Stack {
  std::vector<int> places;  // ascending
  std::vector<Sum> sums;    // [places]

  // The `merged` layers after `at` go into it.
  Stack with(int at, const std::vector<float>& shares) const {
    Stack out = *this;
    Sum into;
    for (size_t k = 0; k < shares.size(); ++k)
      for (const auto& [layer, share] : sums[static_cast<size_t>(at) + k]) into[layer] += shares[k] * share;
    std::erase_if(into, [](const auto& each) { return each.second == 0.0f; });
    out.sums[static_cast<size_t>(at)] = std::move(into);
    const auto merged = static_cast<std::ptrdiff_t>(shares.size()) - 1;
    out.places.erase(out.places.begin() + at + 1, out.places.begin() + at + 1 + merged);
    out.sums.erase(out.sums.begin() + at + 1, out.sums.begin() + at + 1 + merged);
    return out;
  }

  LayersLeft left(int layers) const {
    LayersLeft out{std::vector<LayerParts>(static_cast<size_t>(layers), {false, false}), std::vector<std::vector<LayerShare>>(static_cast<size_t>(layers))};
    for (size_t i = 0; i < places.size(); ++i) {
      const auto place = static_cast<size_t>(places[i]);
      out.parts[place] = {true, true};
      if (sums[i] == Sum{{places[i], 1.0f}}) continue;
      for (const auto& [layer, share] : sums[i]) out.sums[place].push_back({layer, share});
    }
    return out;
  }
};

}  // namespace

std::vector<float> lacoShares(int merged) {
  std::vector<float> out(static_cast<size_t>(merged) + 1, 1.0f);
  out.front() = 1.0f - static_cast<float>(merged);
  return out;
}

std::vector<float> releasedLacoShares(int merged) {
  std::vector<float> out(static_cast<size_t>(merged) + 1);
  out.back() = 1;
  return out;
}

Result<LayersLeft> mergeLayers(const LayerDrop& drop, int layers, const std::function<Result<double>(const LayersLeft&)>& similarity) {
  const LayerDropMethod* method = findLayerDropMethod(drop.method);
  CHECK(method && method->merge, drop.method);
  Stack stack;
  stack.places.resize(static_cast<size_t>(layers));
  std::iota(stack.places.begin(), stack.places.end(), 0);
  for (int layer = 0; layer < layers; ++layer) stack.sums.push_back({{layer, 1.0f}});
  int end = layers - drop.protect, left = drop.count;  // places of the stack below which layers merge; layers that may go
  for (int at = std::max(drop.protect, end - 1 - std::min(drop.together, left)); left > 0 && at >= drop.protect; --at) {
    const int merged = std::min({drop.together, left, end - 1 - at});
    if (merged < 1) continue;
    Stack trial = stack.with(at, method->merge(merged));
    const auto alike = similarity(trial.left(layers));
    if (!alike) return alike.error();
    if (!(*alike > drop.similarity)) continue;
    stack = std::move(trial);
    left -= merged;
    end -= merged;
  }
  return stack.left(layers);
}

}  // namespace winnow
