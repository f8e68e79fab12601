// SPDX-License-Identifier: GPL-3.0-or-later
// The sharing maps of each method; registry.cpp lists them.
#pragma once
#include <vector>

#include "engine/plan/plan.h"

namespace winnow {

class Config;

// Layers left alone at either end where nobody says how many: their attention is distinctive.
int firstLayersAlone(int layers);  // max(2, layers / 8)
int lastLayersAlone(int layers);   // max(1, layers / 16)

// EchoAtt's partition into equal blocks (Rajabzadeh et al., ENLSP-IV 2024): layers [0, first) and [layers - last, layers) are left
// alone, those between are cut into blocks of `block` (the last may be short); the first layer of a block leads it.
// Blocks and spans are of layers that share attention, or with &LayerSharing::source keys and values.
using Shared = int LayerSharing::*;
std::vector<LayerSharing> uniformBlocks(int layers, int first, int last, int block, Shared what = &LayerSharing::attnSource);
std::vector<LayerSharing> blockSharing(const ModelConfig& model, const Config& config, Shared what);  // share.block, share.first, share.last
std::vector<LayerSharing> spanSharing(const ModelConfig& model, const Config& config, Shared what);   // share.spans (engine/share/spans.h)

std::vector<LayerSharing> echoAttSharing(const ModelConfig& model, const Config& config);
std::vector<LayerSharing> sharedAttentionSharing(const ModelConfig& model, const Config& config);
std::vector<LayerSharing> claSharing(const ModelConfig& model, const Config& config);
std::vector<LayerSharing> mixSharing(const ModelConfig& model, const Config& config);
int fullAttentionLayers(int owners);  // of MixAttention where nobody says how many: one in six that own a cache, at least one

}  // namespace winnow
