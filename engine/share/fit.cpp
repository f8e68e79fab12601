// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/fit.h"

#include <algorithm>

#include "engine/core/check.h"
#include "engine/weights/recipe.h"
#include "engine/weights/summed_tensor.h"

namespace winnow {

bool SharingFit::refits(int layer) const {
  return std::ranges::any_of(followers, [&](const FollowerFit& follower) { return follower.layer == layer && follower.refitted; });
}

MasterTensor SharingFit::tensor(const MasterTensor& like) const {
  CHECK(refits(like.layer), like.layer);
  return masterOf(like, output[static_cast<size_t>(like.layer)].as<float>());
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

std::shared_ptr<const SharingFit> SharingFit::planned(const SharingFitChoice& choice, const LayersLeft& left) {
  auto fit = std::make_shared<SharingFit>();
  fit->key = keyOf(choice, left);
  fit->sharing = sharingWithout(choice.sharing, left.parts);
  for (size_t layer = 0; layer < fit->sharing.size(); ++layer) {
    if (fit->sharing[layer].attnSource == static_cast<int>(layer)) continue;
    FollowerFit follower;
    follower.layer = static_cast<int>(layer);
    follower.refitted = choice.refit;
    fit->followers.push_back(follower);
    for (int head = 0; choice.align && head < choice.heads; ++head) fit->sharing[layer].heads.push_back(head);
  }
  return fit;
}

}  // namespace winnow
