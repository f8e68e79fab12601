// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/layer_drop.h"

#include <algorithm>
#include <numeric>

#include "engine/core/check.h"
#include "engine/prune/laco.h"

namespace winnow {
namespace {

// The `count` of [first, last) with the least of what `influence` gives.
template <class Influence>
std::vector<int> least(int first, int last, int count, Influence&& influence) {
  std::vector<int> order(static_cast<size_t>(last - first));
  std::iota(order.rbegin(), order.rend(), first);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return influence(a) < influence(b); });
  order.resize(static_cast<size_t>(count));
  return order;
}

std::vector<LayerParts> shortGpt(const ResidualCosines& measured, int first, int last, int count) {
  auto parts = allParts(measured.layers());
  for (const int layer : least(first, last, count, [&](int l) { return measured.influence(l).layer; })) parts[static_cast<size_t>(layer)] = {false, false};
  return parts;
}

// Gromov et al. 2024: the run of layers whose end points the same way as its beginning.
std::vector<LayerParts> contiguous(const ResidualCosines& measured, int first, int last, int count) {
  auto parts = allParts(measured.layers());
  const int begin = least(first, last - count + 1, 1, [&](int l) { return 1 - measured.cosine(2 * l, 2 * (l + count)); }).front();
  std::fill_n(parts.begin() + begin, count, LayerParts{false, false});
  return parts;
}

std::vector<LayerParts> attentionParts(const ResidualCosines& measured, int first, int last, int count) {
  auto parts = allParts(measured.layers());
  for (const int layer : least(first, last, count, [&](int l) { return measured.influence(l).attention; })) parts[static_cast<size_t>(layer)].attention = false;
  return parts;
}

std::vector<LayerParts> ffnParts(const ResidualCosines& measured, int first, int last, int count) {
  auto parts = allParts(measured.layers());
  for (const int layer : least(first, last, count, [&](int l) { return measured.influence(l).ffn; })) parts[static_cast<size_t>(layer)].ffn = false;
  return parts;
}

}  // namespace

std::span<const LayerDropMethod> layerDropMethods() {
  static const LayerDropMethod methods[] = {
      {"shortgpt", "ShortGPT: layers of least block influence", "Men et al. 2024, section 3", shortGpt},
      {"contiguous", "Contiguous: the run of layers that turns the stream least", "Gromov et al. 2024, section 3", contiguous},
      {"attention", "Attention parts of least influence", "He et al. 2024, \"What matters in transformers?\"", attentionParts},
      {"ffn", "Feed-forward parts of least influence", "He et al. 2024, \"What matters in transformers?\"", ffnParts},
      {"laco", "LaCo: layers merged into the one before them", "Yang et al., EMNLP Findings 2024 (arXiv 2402.11187), section 3", nullptr, lacoShares},
      {"laco-released", "LaCo as its program merges: the last of the layers in their place", "Yang et al., EMNLP Findings 2024, github.com/yangyifei729/LaCo", nullptr, releasedLacoShares},
  };
  return methods;
}

const LayerDropMethod* findLayerDropMethod(std::string_view name) {
  for (const LayerDropMethod& method : layerDropMethods())
    if (method.name == name) return &method;
  return nullptr;
}

bool mergesLayers(std::string_view name) {
  const LayerDropMethod* method = findLayerDropMethod(name);
  return method && method->merge;
}

std::string layerDropKey(const LayerDrop& drop) {
  std::string out = std::to_string(drop.count) + " by " + drop.method + ", " + std::to_string(drop.protect) + " protected";
  if (mergesLayers(drop.method)) out += ", " + std::to_string(drop.together) + " at a time above " + std::to_string(drop.similarity);
  return out;
}

int protectedLayers(int64_t wanted, int layers) { return wanted < 0 ? std::min(2, layers / 4) : static_cast<int>(wanted); }

std::vector<LayerParts> partsLeft(const LayerDrop& drop, const ResidualCosines& measured) {
  if (drop.method.empty() || drop.count == 0) return allParts(measured.layers());
  const LayerDropMethod* method = findLayerDropMethod(drop.method);
  CHECK(method && method->choose, drop.method);
  const int first = drop.protect, last = measured.layers() - drop.protect;
  CHECK(first >= 0 && drop.count <= last - first, drop.count, drop.protect, measured.layers());
  return method->choose(measured, first, last, drop.count);
}

}  // namespace winnow
