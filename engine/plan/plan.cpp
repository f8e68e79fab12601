// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/plan/plan.h"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "engine/core/check.h"
#include "engine/model/model.h"

namespace winnow {

std::string_view opKindName(OpKind kind) {
  constexpr std::array<std::string_view, 10> names = {"embed", "qkv", "v_only", "q_only", "attend", "attend_reuse", "linear", "shortcut", "gate_up", "logits"};
  return names[static_cast<size_t>(kind)];
}

std::vector<LayerSharing> noSharing(int layers) {
  std::vector<LayerSharing> map(static_cast<size_t>(layers));
  for (int layer = 0; layer < layers; ++layer) map[static_cast<size_t>(layer)] = {.source = layer, .attnSource = layer};
  return map;
}

namespace {

bool anyShares(const std::vector<LayerSharing>& sharing, int LayerSharing::*whose) {
  for (size_t layer = 0; layer < sharing.size(); ++layer)
    if (sharing[layer].*whose != static_cast<int>(layer)) return true;
  return false;
}

void inherit(std::vector<LayerSharing>& sharing, int LayerSharing::*whose, const std::vector<LayerParts>& parts) {
  std::vector<int> heir(sharing.size(), -1);  // of a leader or owner: who is in its place
  for (size_t layer = 0; layer < sharing.size(); ++layer) {
    int& own = sharing[layer].*whose;
    if (!parts[layer].attention) {
      own = static_cast<int>(layer);
      continue;
    }
    int& first = heir[static_cast<size_t>(own)];
    if (first < 0) first = static_cast<int>(layer);
    own = first;
  }
}

// A cache of the whole text goes on where its owner went: with its heir, or, of a group that is gone, with the nearest owner of a window, of two as
// near the deeper one.
void passOn(const std::vector<LayerSharing>& before, std::vector<LayerSharing>& sharing, const std::vector<LayerParts>& parts) {
  const auto layers = static_cast<int>(sharing.size());
  const auto at = [](auto& list, int layer) -> auto& { return list[static_cast<size_t>(layer)]; };
  const auto owns = [&](int layer) { return at(parts, layer).attention && at(sharing, layer).source == layer; };
  std::vector<int> gone;
  for (int layer = 0; layer < layers; ++layer) {
    if (!at(before, layer).keepsAll || at(parts, layer).attention) continue;
    at(sharing, layer).keepsAll = false;
    int heir = layer;
    while (heir < layers && !(owns(heir) && at(before, heir).source == layer)) ++heir;
    if (heir == layers) gone.push_back(layer);
    else at(sharing, heir).keepsAll = true;
  }
  for (const int layer : gone) {
    int nearest = -1;
    for (int other = 0; other < layers; ++other)
      if (owns(other) && !at(sharing, other).keepsAll && (nearest < 0 || std::abs(other - layer) <= std::abs(nearest - layer))) nearest = other;
    if (nearest >= 0) at(sharing, nearest).keepsAll = true;
  }
}

}  // namespace

bool sharesAttention(const std::vector<LayerSharing>& sharing) { return anyShares(sharing, &LayerSharing::attnSource); }
bool sharesCache(const std::vector<LayerSharing>& sharing) { return anyShares(sharing, &LayerSharing::source); }

std::vector<LayerParts> allParts(int layers) { return std::vector<LayerParts>(static_cast<size_t>(layers)); }

std::vector<LayerSharing> sharingWithout(const std::vector<LayerSharing>& before, const std::vector<LayerParts>& parts) {
  std::vector<LayerSharing> sharing = before;
  inherit(sharing, &LayerSharing::attnSource, parts);
  inherit(sharing, &LayerSharing::source, parts);
  passOn(before, sharing, parts);
  return sharing;
}

Plan buildPlan(const ModelConfig& model, const std::vector<LayerSharing>& sharing, const std::vector<LayerParts>& parts, bool shortcuts) {
  CHECK(static_cast<int>(sharing.size()) == model.layers, sharing.size(), model.layers);
  CHECK(parts.empty() || parts.size() == sharing.size(), parts.size(), model.layers);
  std::vector<char> followed(sharing.size(), 0);
  for (int layer = 0; layer < model.layers; ++layer) {
    const LayerSharing& share = sharing[static_cast<size_t>(layer)];
    CHECK(share.source >= 0 && share.source <= layer, layer, share.source);
    CHECK(sharing[static_cast<size_t>(share.source)].source == share.source, "the owner borrows from another layer", layer);
    CHECK(share.source == layer || (share.attnSource == layer && sharing[static_cast<size_t>(share.source)].attnSource == share.source),
          "attention and its keys are both another layer's", layer);
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
    if (shortcuts) plan.ops.push_back({.kind = OpKind::shortcut, .layer = layer, .down = down});
    plan.ops.push_back({.kind = OpKind::linear, .layer = layer, .down = down});
  };
  for (int i = 0; i < model.layers; ++i) {
    const auto layer = static_cast<int16_t>(i);
    const auto leader = static_cast<int16_t>(sharing[static_cast<size_t>(i)].attnSource);
    CHECK(plan.attends(i) || leader == layer, "a layer without attention follows another", i);
    if (leader != layer) {
      plan.ops.push_back({OpKind::vOnly, layer, leader});
      plan.ops.push_back({OpKind::attendReuse, layer, leader});
    } else if (plan.attends(i)) {
      const auto source = static_cast<int16_t>(plan.sourceOf(i));
      CHECK(plan.attends(source), "a layer without attention is read", i, int{source});
      plan.ops.push_back({.kind = source == layer ? OpKind::qkv : OpKind::qOnly, .layer = layer});
      plan.ops.push_back({.kind = OpKind::attend, .layer = layer, .source = source, .keepProbabilities = followed[static_cast<size_t>(i)] != 0});
    }
    if (plan.attends(i)) add(layer, false);
    if (!plan.hasFfn(i)) continue;
    plan.ops.push_back({OpKind::gateUp, layer});
    add(layer, true);
  }
  plan.ops.push_back({OpKind::logits});
  return plan;
}

bool Plan::skips(TensorRole role, int layer) const {
  if (layer < 0) return false;
  const bool query = role == TensorRole::q || role == TensorRole::qBias || role == TensorRole::qNorm;
  const bool key = role == TensorRole::k || role == TensorRole::kBias || role == TensorRole::kNorm;
  const bool value = role == TensorRole::v || role == TensorRole::vBias;
  return (follower(layer) && (query || key)) || (borrows(layer) && (key || value));
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
    if (op.source >= 0 && op.source != op.layer) out += ", keys and values of layer " + std::to_string(op.source);
    out += '\n';
  }
  return out;
}

}  // namespace winnow
