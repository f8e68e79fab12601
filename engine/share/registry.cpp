// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/registry.h"

#include <array>

#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"

namespace winnow {

std::span<const ShareMethodInfo> shareMethods() {
  static const std::array<ShareMethodInfo, 4> methods = {{
      {"echoatt", "EchoAtt, uniform blocks", "Rajabzadeh et al., ENLSP-IV 2024, arXiv 2409.14595", &echoAttSharing},
      {"spans", "Shared Attention, chosen spans", "Liao and Vargas 2024, arXiv 2407.12866", &sharedAttentionSharing},
      {"cla", "Cross-Layer Attention: one cache for several layers", "Brandon et al. 2024, arXiv 2405.12981", &claSharing},
      {"mix", "MixAttention: that, and a window in most layers", "Rajput et al. 2024, arXiv 2409.15012", &mixSharing},
  }};
  return methods;
}

std::vector<LayerSharing> sharingOf(const ModelConfig& model, const Config& config) {
  for (const ShareMethodInfo& method : shareMethods())
    if (method.name == config.text("share.method")) return method.sharing(model, config);
  return noSharing(model.layers);
}

}  // namespace winnow
