// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/registry.h"

#include <array>

#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"

namespace winnow {

std::span<const ShareMethodInfo> shareMethods() {
  static const std::array<ShareMethodInfo, 2> methods = {{
      {"echoatt", "EchoAtt, uniform blocks", "Rajabzadeh et al., ENLSP-IV 2024, arXiv 2409.14595", &echoAttSharing},
      {"spans", "Shared Attention, chosen spans", "Liao and Vargas 2024, arXiv 2407.12866", &spanSharing},
  }};
  return methods;
}

std::vector<LayerSharing> sharingOf(const ModelConfig& model, const Config& config) {
  for (const ShareMethodInfo& method : shareMethods())
    if (method.name == config.text("share.method")) return method.sharing(model, config);
  return noSharing(model.layers);
}

}  // namespace winnow
