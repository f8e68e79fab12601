// SPDX-License-Identifier: GPL-3.0-or-later
// Cross-Layer Attention (Brandon et al. 2024, arXiv 2405.12981): neighbouring layers read the keys and values of the first of them, each with
// queries of its own. The others project no keys and no values and own no cache: a group of c layers takes a c-th of it. What evicts or is
// quantized is so once, at the owner: policies that add attention up count that of the whole group, those that look at the newest queries the
// owner's. Models are trained for this; on others the readers meet keys that their queries were not made for.
#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"

namespace winnow {

std::vector<LayerSharing> claSharing(const ModelConfig& model, const Config& config) {
  return config.text("share.spans").empty() ? blockSharing(model, config, &LayerSharing::source) : spanSharing(model, config, &LayerSharing::source);
}

}  // namespace winnow
