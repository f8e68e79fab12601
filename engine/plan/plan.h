// SPDX-License-Identifier: GPL-3.0-or-later
// The transformer as data: a list of fused ops that backends execute with a switch. A plan is a function of the model and
// the sharing map; its index is the op id for timing and taps. Backends never know model families.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/config.h"

namespace winnow {

enum class OpKind : uint8_t {
  embed,        // tokens (+ learned positions) -> residual
  qkv,          // norm, q k v (+bias, q/k norm, RoPE), store k and v into the cache
  vOnly,        // norm, v, store v: EchoAtt followers own no K and project no Q, K
  attend,       // softmax(q k) v over the cache
  attendReuse,  // the leader's probabilities times own v
  linear,       // o or down projection, added to the residual
  shortcut,     // residual -> residual in the directions that the next norm reads (SliceGPT)
  gateUp,       // norm, gate and up (or up alone), activation
  logits,       // final norm and head
};
std::string_view opKindName(OpKind kind);

struct Op {
  OpKind kind{};
  int16_t layer = -1;
  int16_t leader = -1;   // attendReuse: whose probabilities
  bool keepProbabilities = false;  // attend: followers need them
  bool down = false;     // linear: the ffn's second matrix (else o); shortcut: the one before that
};

// Sharing as two integers per layer (DESIGN §2).
struct LayerSharing {
  int source = -1;      // whose K/V: itself, or another layer (CLA; no method yet)
  int attnSource = -1;  // whose probabilities: itself, or the leader
  std::vector<int> heads{};  // [heads] which of the leader's heads each takes them of; empty: that of its own number
  bool operator==(const LayerSharing&) const = default;
};

// What is left of a layer: the rest is in no plan, has no weights and no cache.
struct LayerParts {
  bool attention = true, ffn = true;
  bool operator==(const LayerParts&) const = default;
};
std::vector<LayerParts> allParts(int layers);

struct Plan {
  std::vector<Op> ops;
  std::vector<LayerSharing> sharing;  // [layers]
  std::vector<LayerParts> parts;      // [layers]
  bool shortcuts = false;             // every linear op has one before it
  const std::vector<int>& headsOf(const Op& op) const { return sharing[static_cast<size_t>(op.layer)].heads; }
  bool follower(int layer) const { return sharing[static_cast<size_t>(layer)].attnSource != layer; }
  bool attends(int layer) const { return parts[static_cast<size_t>(layer)].attention; }
  bool hasFfn(int layer) const { return parts[static_cast<size_t>(layer)].ffn; }
  std::string print() const;  // one op per line
};
Plan buildPlan(const ModelConfig& model, const std::vector<LayerSharing>& sharing, const std::vector<LayerParts>& parts = {} /* empty: all */,
               bool shortcuts = false);
std::vector<LayerSharing> noSharing(int layers);
bool sharesAny(const std::vector<LayerSharing>& sharing);
// Layers without attention neither lead nor follow; the first follower of a leader that went leads in its place.
std::vector<LayerSharing> sharingWithout(std::vector<LayerSharing> sharing, const std::vector<LayerParts>& parts);

}  // namespace winnow
