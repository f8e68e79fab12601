// SPDX-License-Identifier: GPL-3.0-or-later
// What a calibration text says of layers that share attention, without training (pruning_sharing_attribution.md, A1 step 10 and J5): which of
// the leader's heads each head of a follower is most like, and an output projection for the attention that the follower gets in place of its own; of
// layers that read the keys and values of another (CLA; A2) that and queries, for what of their own these say.
// EchoAtt (Rajabzadeh et al., ENLSP-IV 2024, arXiv 2409.14595) trains for the same end; LISA (arXiv 2408.01890) reports that heads that are shared in
// the order they come do not match.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/core/memory.h"
#include "engine/model/model.h"
#include "engine/plan/plan.h"

namespace winnow {

struct LayersLeft;
struct SharingFitChoice;

// Squared differences are of what the output projection adds to the residual, summed over the tokens: of the layer's own attention, and of what
// it has instead. "Unseen" are the last fifth of the tokens, at most 256, which the fit had not seen; the rest is what it was made of.
struct FollowerFit {
  int layer = -1;
  double likeness = 0, aligned = 0;      // mean cosine of rows with the leader's head of the same number, with the head that was chosen
  double before = 0, after = 0;          // of the tokens of the fit
  double unseenBefore = 0, unseenAfter = 0;
  bool refitted = false;                 // the output projection, only where that lowers both differences
  bool mapped = false;                   // the queries, with it: engine/share/borrow.h
};

struct SharingFit {
  std::string key;                       // of the choice, of the layers that are left
  std::vector<LayerSharing> sharing;     // [layers] with heads where they were aligned
  std::vector<FollowerFit> followers;    // ascending
  // [layers] f32; empty where a layer keeps its own
  std::vector<Buffer> output;            // [hidden, heads * headDim]
  std::vector<Buffer> queries;           // [heads * headDim, hidden]
  std::vector<Buffer> queryBiases;       // [heads * headDim]

  bool replaces(TensorRole role, int layer) const;
  MasterTensor tensor(const MasterTensor& like) const;  // in the place of the model's; CHECKs replaces()
  // As if every follower was fitted, without values; of a plan.
  static std::shared_ptr<const SharingFit> planned(const ModelConfig& model, const SharingFitChoice& choice, const LayersLeft& left);
  // The memory that a fit of this sharing holds at most.
  static std::vector<Buffer> reserve(const ModelConfig& model, const std::vector<LayerSharing>& sharing, Ledger& ledger);
  static std::string keyOf(const SharingFitChoice& choice, const LayersLeft& left);
};

}  // namespace winnow
