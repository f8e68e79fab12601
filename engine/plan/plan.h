// SPDX-License-Identifier: GPL-3.0-or-later
// The transformer as data: a list of fused ops that backends execute with a switch. A plan is a function of the model and
// the sharing map; its index is the op id for timing and taps. Backends never know model families.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/config.h"

namespace winnow {

enum class TensorRole : uint8_t;  // engine/model/model.h

enum class OpKind : uint8_t {
  embed,        // tokens (+ learned positions) -> residual
  qkv,          // norm, q k v (+bias, q/k norm, RoPE), store k and v into the cache
  vOnly,        // norm, v, store v: EchoAtt followers own no K and project no Q, K
  qOnly,        // norm, q (+bias, q norm, RoPE): layers that read the keys and values of another (CLA)
  attend,       // softmax(q k) v over the cache of a layer
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
  int16_t source = -1;   // attend: whose keys and values
  bool keepProbabilities = false;  // attend: followers need them
  bool down = false;     // linear: the ffn's second matrix (else o); shortcut: the one before that
};

// Who reads what of whom. A layer that shares keys and values attends by itself, one that shares attention has values of its own.
struct LayerSharing {
  int source = -1;      // whose keys and values: its own, or the owner's (CLA)
  int attnSource = -1;  // whose probabilities: itself, or the leader
  std::vector<int> heads{};  // [heads] which of the leader's heads each takes them of; empty: that of its own number
  bool keepsAll = false;     // eviction leaves its cache alone (MixAttention)
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
  bool follower(int layer) const { return sharing[static_cast<size_t>(layer)].attnSource != layer; }  // of attention
  int sourceOf(int layer) const { return sharing[static_cast<size_t>(layer)].source; }
  bool borrows(int layer) const { return sourceOf(layer) != layer; }  // keys and values, and owns no cache
  bool caches(int layer) const { return attends(layer) && !borrows(layer); }
  // A tensor that belongs to no op: of a follower's queries and keys, of a borrower's keys and values. Layers below 0 have none.
  bool skips(TensorRole role, int layer) const;
  bool attends(int layer) const { return parts[static_cast<size_t>(layer)].attention; }
  bool hasFfn(int layer) const { return parts[static_cast<size_t>(layer)].ffn; }
  std::string print() const;  // one op per line
};
Plan buildPlan(const ModelConfig& model, const std::vector<LayerSharing>& sharing, const std::vector<LayerParts>& parts = {} /* empty: all */,
               bool shortcuts = false);
std::vector<LayerSharing> noSharing(int layers);
bool sharesAttention(const std::vector<LayerSharing>& sharing);  // of any layer
bool sharesCache(const std::vector<LayerSharing>& sharing);      // keys and values
// Layers without attention neither lead nor follow; the first follower of a leader or owner that went takes its place. As many owners as before keep
// the whole text, while there are so many.
std::vector<LayerSharing> sharingWithout(const std::vector<LayerSharing>& before, const std::vector<LayerParts>& parts);

}  // namespace winnow
