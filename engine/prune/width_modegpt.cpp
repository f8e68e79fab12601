// SPDX-License-Identifier: GPL-3.0-or-later
// MoDeGPT (Lin et al., ICLR 2025; pruning_sharing_attribution.md, D3), its module of the feed-forward: with C the second moments of what down
// reads, the channels with the highest ridge leverage [C (C + lambda I)^-1]_ii stay, and down becomes W C_:K C_KK^-1 (channel_refit.h). Since that
// is 1 - lambda [(C + lambda I)^-1]_ii, they are ordered by the last factor, without cancellation. Layer l loses the share
// layers * removed * softmax(-s_l / 0.15), s_l its block influence, of 80 % at most.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/core/check.h"
#include "engine/prune/width_methods.h"

namespace winnow {
namespace {

constexpr double kTemperature = 0.15, kMostRemoved = 0.8;

}  // namespace

std::vector<double> modegptScores(const WidthInput& input) {
  const InverseFactor* factor = input.statistics.factor;
  CHECK(factor && factor->cols() == input.ffn && factor->order().empty(), input.ffn);
  std::vector<double> out(static_cast<size_t>(input.ffn));
  for (int k = 0; k < input.ffn; ++k) {
    const float* row = factor->row(k);
    for (int i = k; i < input.ffn; ++i) out[static_cast<size_t>(i)] -= static_cast<double>(row[i]) * static_cast<double>(row[i]);
  }
  for (const int dead : factor->dead()) out[static_cast<size_t>(dead)] = -std::numeric_limits<double>::infinity();
  return out;
}

std::vector<double> modegptShares(std::span<const LayerInfluence> layers, double kept) {
  const double removed = 1 - kept, most = std::max(kMostRemoved, removed);
  std::vector<double> gone;
  for (const LayerInfluence& layer : layers) gone.push_back(std::exp(-layer.layer / kTemperature));
  std::vector<bool> capped(layers.size());
  // What a layer may not lose falls to the others in proportion; each turn caps another or ends.
  for (bool again = true; again;) {
    again = false;
    double budget = removed * static_cast<double>(layers.size()), open = 0;
    for (size_t l = 0; l < gone.size(); ++l) (capped[l] ? budget : open) += capped[l] ? -gone[l] : gone[l];
    for (size_t l = 0; l < gone.size(); ++l) {
      if (capped[l]) continue;
      gone[l] *= budget / open;
      capped[l] = gone[l] > most;
      again |= capped[l];
      gone[l] = std::min(gone[l], most);
    }
  }
  for (double& each : gone) each = 1 - each;
  return gone;
}

}  // namespace winnow
