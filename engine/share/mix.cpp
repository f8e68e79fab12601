// SPDX-License-Identifier: GPL-3.0-or-later
// MixAttention (Rajput et al. 2024, arXiv 2409.15012): a sliding window in all layers but a few, and neighbours that read one cache as in
// Cross-Layer Attention. The window is what kv.policy and kv.budget keep (streaming, 1024 tokens, where they say nothing), with its sinks: models
// that were not trained with a window need those. A prompt attends by batches to what is held then, as under any eviction.
#include <algorithm>

#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"

namespace winnow {

int fullAttentionLayers(int owners) { return std::max(1, owners / 6); }

// Of `count` runs of owners as equal as can be, the one at three quarters: the paper finds full attention worth most deeper in the stack.
std::vector<LayerSharing> mixSharing(const ModelConfig& model, const Config& config) {
  std::vector<LayerSharing> map = claSharing(model, config);
  std::vector<size_t> owners;
  for (size_t layer = 0; layer < map.size(); ++layer)
    if (map[layer].source == static_cast<int>(layer)) owners.push_back(layer);
  const auto all = static_cast<int64_t>(owners.size()), wanted = config.integer("share.full");
  const int64_t count = std::min(wanted < 0 ? fullAttentionLayers(static_cast<int>(all)) : wanted, all);
  for (int64_t run = 0; run < count; ++run) {
    const int64_t begin = run * all / count, end = (run + 1) * all / count;
    map[owners[static_cast<size_t>(begin + (end - begin) * 3 / 4)]].keepsAll = true;
  }
  return map;
}

}  // namespace winnow
