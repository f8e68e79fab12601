// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/fit.h"

#include <algorithm>

#include "engine/core/check.h"
#include "engine/share/borrow.h"
#include "engine/weights/recipe.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {

bool SharingFit::replaces(TensorRole role, int layer) const {
  const auto follower = std::ranges::find(followers, layer, &FollowerFit::layer);
  if (follower == followers.end()) return false;
  return role == TensorRole::o ? follower->refitted : (role == TensorRole::q || role == TensorRole::qBias) && follower->mapped;
}

MasterTensor SharingFit::tensor(const MasterTensor& like) const {
  CHECK(replaces(like.role, like.layer), like.layer);
  const std::vector<Buffer>& of = like.role == TensorRole::o ? output : like.role == TensorRole::q ? queries : queryBiases;
  return masterOf(like, of[static_cast<size_t>(like.layer)].as<float>());
}

std::string SharingFit::keyOf(const SharingFitChoice& choice, const LayersLeft& left) {
  std::string key = choice.key();
  for (size_t layer = 0; layer < left.parts.size(); ++layer) {
    if (left.parts[layer] != LayerParts()) key += " without " + std::to_string(layer) + (left.parts[layer].attention ? " ffn" : left.parts[layer].ffn ? " attention" : "");
    if (left.sums.empty()) continue;
    for (const LayerShare& share : left.sums[layer]) key += " " + std::to_string(layer) + "+" + toText(KnobValue{double{share.weight}}) + "*" + std::to_string(share.layer);
  }
  return key;
}

std::shared_ptr<const SharingFit> SharingFit::planned(const ModelConfig& model, const SharingFitChoice& choice, const LayersLeft& left) {
  auto fit = std::make_shared<SharingFit>();
  fit->key = keyOf(choice, left);
  fit->sharing = sharingWithout(choice.sharing, left.parts);
  for (int layer = 0; layer < model.layers; ++layer) {
    LayerSharing& share = fit->sharing[static_cast<size_t>(layer)];
    const bool borrows = share.source != layer;
    if (share.attnSource == layer && !borrows) continue;
    FollowerFit follower;
    follower.layer = layer;
    follower.refitted = choice.refit;
    follower.mapped = choice.refit && borrows && mapsKeys(model);
    fit->followers.push_back(follower);
    for (int head = 0; choice.align && !borrows && head < choice.heads; ++head) share.heads.push_back(head);
  }
  return fit;
}

std::vector<Buffer> SharingFit::reserve(const ModelConfig& model, const std::vector<LayerSharing>& sharing, Ledger& ledger) {
  std::vector<Buffer> out;
  const auto projection = sizeof(float) * static_cast<size_t>(model.qRows()) * static_cast<size_t>(model.hidden);
  for (int layer = 0; layer < static_cast<int>(sharing.size()); ++layer) {
    const LayerSharing& share = sharing[static_cast<size_t>(layer)];
    const bool borrows = share.source != layer;
    for (int matrices = borrows ? 1 + (mapsKeys(model) ? 1 : 0) : share.attnSource != layer ? 1 : 0; matrices > 0; --matrices)
      out.emplace_back(ledger, MemoryTag::calibration, projection);
  }
  return out;
}

}  // namespace winnow
