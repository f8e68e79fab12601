// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/plan/plan.h"

#include <array>
#include <cstdio>

#include "engine/core/check.h"

namespace winnow {

std::string_view opKindName(OpKind kind) {
  constexpr std::array<std::string_view, 9> names = {"embed", "qkv", "v_only", "attend", "attend_reuse", "linear", "shortcut", "gate_up", "logits"};
  return names[static_cast<size_t>(kind)];
}

std::vector<LayerSharing> noSharing(int layers) {
  std::vector<LayerSharing> map(static_cast<size_t>(layers));
  for (int layer = 0; layer < layers; ++layer) map[static_cast<size_t>(layer)] = {layer, layer, {}};
  return map;
}

bool sharesAny(const std::vector<LayerSharing>& sharing) {
  for (size_t layer = 0; layer < sharing.size(); ++layer)
    if (sharing[layer].attnSource != static_cast<int>(layer)) return true;
  return false;
}

std::vector<LayerParts> allParts(int layers) { return std::vector<LayerParts>(static_cast<size_t>(layers)); }

std::vector<LayerSharing> sharingWithout(std::vector<LayerSharing> sharing, const std::vector<LayerParts>& parts) {
  std::vector<int> heir(sharing.size(), -1);  // of a leader: who leads now
  for (size_t layer = 0; layer < sharing.size(); ++layer) {
    const auto leader = static_cast<size_t>(sharing[layer].attnSource);
    if (!parts[layer].attention) {
      sharing[layer].attnSource = static_cast<int>(layer);
      continue;
    }
    if (heir[leader] < 0) heir[leader] = static_cast<int>(layer);
    sharing[layer].attnSource = heir[leader];
  }
  return sharing;
}

Plan buildPlan(const ModelConfig& model, const std::vector<LayerSharing>& sharing, const std::vector<LayerParts>& parts, bool shortcuts) {
  CHECK(static_cast<int>(sharing.size()) == model.layers, sharing.size(), model.layers);
  CHECK(parts.empty() || parts.size() == sharing.size(), parts.size(), model.layers);
  std::vector<char> followed(sharing.size(), 0);
  for (int layer = 0; layer < model.layers; ++layer) {
    const LayerSharing& share = sharing[static_cast<size_t>(layer)];
    CHECK(share.source == layer, "keys and values of another layer", layer, share.source);
    CHECK(share.attnSource >= 0 && share.attnSource <= layer, layer, share.attnSource);
    CHECK(sharing[static_cast<size_t>(share.attnSource)].attnSource == share.attnSource, "the leader follows another layer", layer);
    CHECK(share.heads.empty() || (share.attnSource != layer && static_cast<int>(share.heads.size()) == model.heads), "heads of no leader", layer);
    for (const int head : share.heads) CHECK(head >= 0 && head < model.heads, layer, head);
    if (share.attnSource != layer) followed[static_cast<size_t>(share.attnSource)] = 1;
  }

  Plan plan;
  plan.sharing = sharing;
  plan.parts = parts.empty() ? allParts(model.layers) : parts;
  plan.shortcuts = shortcuts;
  plan.ops.push_back({OpKind::embed});
  const auto add = [&](int16_t layer, bool down) {
    if (shortcuts) plan.ops.push_back({OpKind::shortcut, layer, -1, false, down});
    plan.ops.push_back({OpKind::linear, layer, -1, false, down});
  };
  for (int i = 0; i < model.layers; ++i) {
    const auto layer = static_cast<int16_t>(i);
    const auto leader = static_cast<int16_t>(sharing[static_cast<size_t>(i)].attnSource);
    CHECK(plan.attends(i) || leader == layer, "a layer without attention follows another", i);
    if (leader != layer) {
      plan.ops.push_back({OpKind::vOnly, layer, leader});
      plan.ops.push_back({OpKind::attendReuse, layer, leader});
    } else if (plan.attends(i)) {
      plan.ops.push_back({OpKind::qkv, layer});
      plan.ops.push_back({OpKind::attend, layer, -1, followed[static_cast<size_t>(i)] != 0});
    }
    if (plan.attends(i)) add(layer, false);
    if (!plan.hasFfn(i)) continue;
    plan.ops.push_back({OpKind::gateUp, layer});
    add(layer, true);
  }
  plan.ops.push_back({OpKind::logits});
  return plan;
}

std::string Plan::print() const {
  std::string out;
  for (size_t i = 0; i < ops.size(); ++i) {
    const Op& op = ops[i];
    char line[96];
    std::snprintf(line, sizeof line, "%4zu  ", i);
    out += line;
    if (op.layer >= 0) out += "layer " + std::to_string(op.layer) + "  ";
    out += opKindName(op.kind);
    if (op.kind == OpKind::linear || op.kind == OpKind::shortcut) out += op.down ? " down" : " o";
    if (op.keepProbabilities) out += ", keeps its probabilities";
    if (op.leader >= 0) out += ", attention of layer " + std::to_string(op.leader);
    out += '\n';
  }
  return out;
}

}  // namespace winnow
