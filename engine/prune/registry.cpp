// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/prune/methods.h"

namespace winnow {

std::span<const PruneMethod> pruneMethods() {
  static const PruneMethod methods[] = {
      {"magnitude", "Magnitude: smallest weights of each matrix", "Han et al. 2015", {}, prepareMagnitude},
      {"wanda", "Wanda: weight times input norm, per row", "Sun et al., ICLR 2024, section 3", {.norms = true}, prepareWanda},
  };
  return methods;
}

const PruneMethod* findPruneMethod(std::string_view name) {
  for (const PruneMethod& method : pruneMethods())
    if (method.name == name) return &method;
  return nullptr;
}

}  // namespace winnow
