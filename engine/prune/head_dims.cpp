// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/head_dims.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/prune/head_dim_methods.h"
#include "engine/prune/width.h"

namespace winnow {
namespace {

int stepOf(int headDim) { return headDim < 32 ? 4 : 8; }

}  // namespace

int HeadDimInput::units() const { return model.config().position == PositionKind::rope ? model.config().headDim / 2 : model.config().headDim; }

std::span<const HeadDimMethod> headDimMethods() {
  static const HeadDimMethod methods[] = {
      {"modegpt", "MoDeGPT: queries and keys by their moments, values folded", "Lin et al., ICLR 2025 (arXiv 2408.09632), section 3", true, modegptKeyScores, nullptr, modegptFolds},
      {"random", "Random components: what the others are compared with", "", false, randomKeyScores, randomValueScores},
  };
  return methods;
}

const HeadDimMethod* findHeadDimMethod(std::string_view name) {
  for (const HeadDimMethod& method : headDimMethods())
    if (method.name == name) return &method;
  return nullptr;
}

std::string headDimKey(const HeadDimChoice& choice) {
  return std::to_string(choice.removed) + " of the heads' components by " + choice.method +
         (choice.recovery.empty() ? "" : " recovered by " + choice.recovery + " damped " + std::to_string(choice.damping));
}

int headDimLeft(double removed, int headDim) {
  const int step = stepOf(headDim), most = (headDim - 1) / step;
  CHECK(removed > 0 && most > 0, removed, headDim);
  return step * std::clamp(static_cast<int>(std::lround((1 - removed) * headDim / step)), 1, most);
}

std::optional<std::string> cannotNarrowHeads(const ModelConfig& model) {
  if (model.headDim < 8) return "heads of " + std::to_string(model.headDim) + " components are too narrow: they keep multiples of 4.";
  if (model.qkNorm) return "this model divides queries and keys by the norm of whole heads, which is not that of the components that stay.";
  if (model.position == PositionKind::rope && model.rope.dims != model.headDim)
    return "RoPE turns " + std::to_string(model.rope.dims) + " of the " + std::to_string(model.headDim) + " components of a head: only heads that are turned whole, or not at all, are narrowed.";
  return std::nullopt;
}

KeptAttention keptHeadDims(const ModelConfig& model, int left, std::span<const double> keys, std::span<const double> values) {
  const bool rope = model.position == PositionKind::rope;
  const int n = model.headDim, units = rope ? n / 2 : n, group = model.groupSize();
  std::vector<int> ofKeys, ofQueries, ofValues, ofOutputs;
  KeptAttention out;
  out.queryScale = std::sqrt(static_cast<float>(left) / static_cast<float>(n));
  for (int kvHead = 0; kvHead < model.kvHeads; ++kvHead) {
    const Channels kept = bestChannels(keys.subspan(static_cast<size_t>(kvHead * units), static_cast<size_t>(units)), rope ? left / 2 : left);
    std::vector<int> components = kept->list;
    if (rope) {
      out.pairs.insert(out.pairs.end(), kept->list.begin(), kept->list.end());
      for (const int pair : kept->list) components.push_back(units + pair);
    }
    const auto add = [&](std::vector<int>& to, int head, const std::vector<int>& list) {
      for (const int component : list) to.push_back(head * n + component);
    };
    add(ofKeys, kvHead, components);
    for (int q = 0; q < group; ++q) add(ofQueries, kvHead * group + q, components);
    if (values.empty()) continue;
    const Channels best = bestChannels(values.subspan(static_cast<size_t>(kvHead * n), static_cast<size_t>(n)), left);
    add(ofValues, kvHead, best->list);
    for (int q = 0; q < group; ++q) add(ofOutputs, kvHead * group + q, best->list);
  }
  out.queries = keptChannels(std::move(ofQueries));
  out.keys = keptChannels(std::move(ofKeys));
  if (values.empty()) return out;
  out.values = keptChannels(std::move(ofValues));
  out.outputs = keptChannels(std::move(ofOutputs));
  return out;
}

}  // namespace winnow
