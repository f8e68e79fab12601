// SPDX-License-Identifier: GPL-3.0-or-later
// EchoAtt: followers use the leader's attention probabilities on their own values; they own no keys and project no queries.
#include <algorithm>

#include "engine/core/check.h"
#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"

namespace winnow {

int firstLayersAlone(int layers) { return std::max(2, layers / 8); }
int lastLayersAlone(int layers) { return std::max(1, layers / 16); }

std::vector<LayerSharing> uniformBlocks(int layers, int first, int last, int block, Shared what) {
  CHECK(block >= 1 && first >= 0 && last >= 0, first, last, block);
  std::vector<LayerSharing> map = noSharing(layers);
  for (int layer = first; layer < layers - last; ++layer) map[static_cast<size_t>(layer)].*what = layer - (layer - first) % block;
  return map;
}

std::vector<LayerSharing> blockSharing(const ModelConfig& model, const Config& config, Shared what) {
  const auto clamped = [&](const char* name, int automatic) {
    const int64_t value = config.integer(name);
    return static_cast<int>(std::min<int64_t>(value < 0 ? automatic : value, model.layers));
  };
  const int first = clamped("share.first", firstLayersAlone(model.layers));
  const int last = clamped("share.last", lastLayersAlone(model.layers));
  return uniformBlocks(model.layers, first, last, static_cast<int>(std::max<int64_t>(1, config.integer("share.block"))), what);
}

std::vector<LayerSharing> echoAttSharing(const ModelConfig& model, const Config& config) { return blockSharing(model, config, &LayerSharing::attnSource); }

}  // namespace winnow
