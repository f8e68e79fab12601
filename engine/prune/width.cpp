// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/width.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <numeric>

#include "engine/core/check.h"
#include "engine/prune/width_methods.h"

namespace winnow {
namespace {

// Whole numbers of steps near `wanted`, each of least..most, that add up to `total`: the largest fractions are rounded up.
std::vector<int> rounded(const std::vector<double>& wanted, int total, int least, int most) {
  std::vector<int> out;
  for (const double each : wanted) out.push_back(std::clamp(static_cast<int>(std::floor(each)), least, most));
  for (int left = total - std::accumulate(out.begin(), out.end(), 0); left != 0;) {
    const int step = left > 0 ? 1 : -1;
    size_t best = out.size();
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i] + step < least || out[i] + step > most) continue;
      if (best == out.size() || step * (wanted[i] - out[i]) > step * (wanted[best] - out[best])) best = i;
    }
    CHECK(best < out.size(), total, least, most);
    out[best] += step;
    left -= step;
  }
  return out;
}

}  // namespace

std::span<const WidthMethod> widthMethods() {
  static const WidthMethod methods[] = {
      {"cfsp", "CFSP: a width per layer by its influence, channels by weights and inputs", "Wang et al., COLING 2025 (arXiv 2409.13199), section 3", {.norms = true}, cfspScores, cfspShares},
      {"cfsp-released", "CFSP as its program scores channels: by inputs alone", "Wang et al., COLING 2025, github.com/wyxscir/CFSP", {.norms = true}, releasedCfspScores, cfspShares},
      {"minitron", "Minitron: channels by their mean activation, every layer alike", "Muralidharan et al., NeurIPS 2024 (arXiv 2407.14679), section 2", {.norms = true}, minitronScores},
      {"modegpt", "MoDeGPT: ridge leverage and a Nyström fit of down", "Lin et al., ICLR 2025 (arXiv 2408.09632), section 3", {.moments = true, .factor = true}, modegptScores, modegptShares, true},
      {"random", "Random channels: what the others are compared with", "", {}, randomChannelScores},
  };
  return methods;
}

const WidthMethod* findWidthMethod(std::string_view name) {
  for (const WidthMethod& method : widthMethods())
    if (method.name == name) return &method;
  return nullptr;
}

std::string widthKey(const WidthChoice& choice) {
  return std::to_string(choice.removed) + " of the channels by " + choice.method + (choice.recovery.empty() ? "" : " recovered by " + choice.recovery) + " damped " +
         std::to_string(choice.damping);
}

int widthStep(int ffn) { return static_cast<int>(std::clamp(std::bit_floor(static_cast<unsigned>(std::max(ffn / 16, 1))), 8u, 128u)); }

bool narrows(int ffn) { return ffn / widthStep(ffn) >= 2; }

std::vector<int> widthsLeft(const WidthChoice& choice, int ffn, const std::vector<LayerParts>& parts, std::span<const LayerInfluence> influences) {
  const WidthMethod* method = findWidthMethod(choice.method);
  CHECK(method && choice.removed > 0 && narrows(ffn), choice.method, choice.removed, ffn);
  const int step = widthStep(ffn), whole = ffn / step, narrow = ffn % step == 0 ? whole - 1 : whole;  // steps that leave a channel out
  std::vector<size_t> layers;
  for (size_t layer = 0; layer < parts.size(); ++layer)
    if (parts[layer].ffn) layers.push_back(layer);
  std::vector<int> out(parts.size());
  if (layers.empty()) return out;
  const double each = (1 - choice.removed) * ffn / step;
  const auto count = static_cast<int>(layers.size());
  if (!method->shares) {
    for (const size_t layer : layers) out[layer] = step * std::clamp(static_cast<int>(std::lround(each)), 1, narrow);
    return out;
  }
  const int total = std::clamp(static_cast<int>(std::lround(each * count)), count, narrow == whole ? whole * count : whole * count - 1);
  // Either every layer is narrowed or none by more than a step: how many are whole does not depend on what was measured.
  const bool all = total <= narrow * count;
  std::vector<double> wanted(layers.size(), static_cast<double>(total) / count);
  if (!influences.empty()) {
    std::vector<LayerInfluence> seen;
    for (const size_t layer : layers) seen.push_back(influences[layer]);
    wanted = method->shares(seen, 1 - choice.removed);
    for (double& share : wanted) share *= static_cast<double>(ffn) / step;
  }
  const std::vector<int> steps = rounded(wanted, total, all ? 1 : whole - 1, all ? narrow : whole);
  for (size_t i = 0; i < layers.size(); ++i) out[layers[i]] = steps[i] == whole && narrow < whole ? ffn : step * steps[i];
  return out;
}

Channels bestChannels(std::span<const double> scores, int count) {
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return keptChannels(std::move(order));
}

std::vector<double> sumOverRows(const WidthInput::Decode& decode, int rows, int cols, int width, ThreadPool* pool,
                                const std::function<void(const float* row, int index, double* sums)>& add) {
  constexpr int kBand = 128;
  const int bands = (rows + kBand - 1) / kBand;
  std::vector<double> sums(static_cast<size_t>(bands) * static_cast<size_t>(width));
  std::atomic<int> next{0};
  const auto work = [&](int, int) {
    std::vector<float> values(static_cast<size_t>(kBand) * static_cast<size_t>(cols));
    for (int band; (band = next.fetch_add(1)) < bands;) {
      const int first = band * kBand, count = std::min(kBand, rows - first);
      decode(first, count, values.data());
      for (int r = 0; r < count; ++r)
        add(values.data() + static_cast<size_t>(r) * static_cast<size_t>(cols), first + r, sums.data() + static_cast<size_t>(band) * static_cast<size_t>(width));
    }
  };
  if (pool)
    pool->run(work);
  else
    work(0, 1);
  for (size_t i = static_cast<size_t>(width); i < sums.size(); ++i) sums[i % static_cast<size_t>(width)] += sums[i];
  sums.resize(static_cast<size_t>(width));
  return sums;
}

}  // namespace winnow
